"""Header fields by RFC 9110 and 9112: Host, lists in several lines, fields that may occur once."""

import json
import secrets

import httpx
import pytest

from service.app import create_app
from service.http.server.fields import collect_fields
from service.settings import Settings
from tests.harness.api_client import Api
from tests.loopback.raw_http import connect, make_request

HOST = b"Host: leadlog.test\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        "", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host: a b\r\n",
        "Host: a/b\r\n", "Host: user@a\r\n", "Host: [::1\r\n", "Host: a:x\r\n",
        "Host: a, b\r\n", "Host: a:80:80\r\n",
        "Host: \u00ff\r\n", "Host: %zz\r\n",
    ],
)  # fmt: skip
async def test_a_missing_repeated_or_invalid_host_is_400(api: Api, lines: str) -> None:
    request = make_request("GET", "/health/live").replace(HOST, lines.encode("latin-1"))
    async with connect(api.url) as wire:
        await wire.send(make_request("GET", "/health/live") + request)
        assert (await wire.read_response()).status == 200
        answer = await wire.read_response()
        assert (answer.status, answer.error["code"]) == (400, "invalid_request")
        assert "Host" in answer.error["message"]
        assert await wire.ends()


@pytest.mark.parametrize(
    "host", ["a", "a.example:8080", "[::1]:80", "127.0.0.1", "", "a_b~c", "a:", "%41"]
)
async def test_a_valid_host_is_accepted(api: Api, host: str) -> None:
    request = make_request("GET", "/health/live").replace(HOST, f"Host: {host}\r\n".encode())
    async with connect(api.url) as wire:
        await wire.send(request)
        assert (await wire.read_response()).status == 200
        await wire.send(request.replace(b"/health/live", b"http://other.test/health/live"))
        assert (await wire.read_response()).status == 200
        old = request.replace(b"HTTP/1.1", b"HTTP/1.0").replace(f"Host: {host}\r\n".encode(), b"")
        await wire.send(old)
        assert (await wire.read_response()).status == 200
        assert await wire.ends()


@pytest.mark.parametrize(
    "lines",
    [
        ['If-Match: "0"', "If-Match: {etag}"],
        ['If-Match: "0", , {etag}'],
        ["If-Match: {etag},,"],
        [",", '"0" ,', "{etag}"],
        ["if-match:{etag}", 'IF-MATCH:  "0"\t'],
    ],
)
async def test_a_list_in_several_lines_or_with_gaps_is_one_list(api: Api, lines: list[str]) -> None:
    lead = await api.post("/v1/leads", {"email": f"{secrets.token_hex(8)}@fields.example.com"})
    path, etag = lead.headers["location"], lead.headers["etag"]
    named = [line if "atch:" in line.title() else f"If-Match: {line}" for line in lines]
    sent = [line.format(etag=etag) for line in named]
    unknown = [line.replace(etag, '"9999"') for line in sent]
    async with connect(api.url) as wire:
        body = json.dumps({"name": "Joined"}).encode()
        await wire.send(make_request("PATCH", path, *unknown, key=api.key, body=body))
        assert (await wire.read_response()).status == 412
        await wire.send(make_request("PATCH", path, *sent, key=api.key, body=body))
        assert (await wire.read_response()).status == 200
        await wire.send(make_request("GET", path, key=api.key))
        known = (await wire.read_response()).headers["etag"]
        others = ['If-None-Match: "x"', f"If-None-Match: , {known}"]
        await wire.send(make_request("GET", path, *others, key=api.key))
        assert (await wire.read_response(has_body=False)).status in {200, 304}


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: application/json", "Content-Type: application/json"],
        ["Content-Type: application/json", "Content-Type: text/plain"],
        ["Idempotency-Key: a", "Idempotency-Key: b"],
        ["Authorization: Bearer x", "authorization: Bearer y"],
        ["Content-Length: 2", "Content-Length: 2"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: identity"],
    ],
)
async def test_a_repeated_single_field_or_invalid_framing_is_400(
    api: Api, lines: list[str]
) -> None:
    async with connect(api.url) as wire:
        await wire.send(make_request("POST", "/v1/leads", *lines) + b"{}")
        answer = await wire.read_response()
        assert (answer.status, answer.error["code"]) == (400, "invalid_request")
        assert answer.headers["x-request-id"]
        assert await wire.ends()


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Idempotency-Key"])
async def test_a_repeated_header_is_named_in_the_details(api: Api, name: str) -> None:
    async with connect(api.url) as wire:
        await wire.send(make_request("GET", "/v1/leads", f"{name}: a", f"{name.lower()}: b"))
        answer = await wire.read_response()
    [fault] = answer.error["details"]
    assert answer.status == 400
    assert (fault["field"], fault["code"]) == (name, "duplicate")
    assert fault["message"] == answer.error["message"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", b"garbage\r\n\r\n",
        b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    ],
)  # fmt: skip
async def test_each_400_has_details(api: Api, request_bytes: bytes) -> None:
    async with connect(api.url) as wire:
        await wire.send(request_bytes)
        answer = await wire.read_response()
    [fault] = answer.error["details"]
    assert (answer.status, set(fault)) == (400, {"field", "code", "message"})


async def test_a_length_with_leading_zeros_is_read(api: Api) -> None:
    body = b'{"email": "zeros@example.com"}'
    length = f"Content-Length: {'0' * 5_000}{len(body)}"
    async with connect(api.url) as wire:
        await wire.send(make_request("POST", "/v1/leads", length, key=api.key) + body)
        assert (await wire.read_response()).status == 201


@pytest.mark.parametrize("name", ["Connection", "proxy-connection"])
async def test_a_connection_field_in_a_trailer_is_400(api: Api, name: str) -> None:
    head = make_request("POST", "/v1/leads", "Transfer-Encoding: chunked", key=api.key)
    async with connect(api.url) as wire:
        await wire.send(head + b"2\r\n{}\r\n0\r\n" + name.encode() + b": close\r\n\r\n")
        response = await wire.read_response()
        assert response.status == 400
        assert "trailer" in response.error["message"]
        assert await wire.ends()


async def test_an_encoded_slash_in_an_id_is_no_separator(api: Api) -> None:
    lead = await api.post("/v1/leads", {"email": f"{secrets.token_hex(8)}@fields.example.com"})
    lead_id = lead.json["id"]
    assert (await api.get(f"/v1/leads/{lead_id}/score")).status == 200
    assert (await api.get(f"/v1/%6Ceads/{lead_id.replace('_', '%5F')}")).status == 200
    for path in (
        f"{lead_id}%2Fscore", f"{lead_id}%2fscore", "%2F", "a%2Fb", "%7B%7D", "%7Bid%7D", "..%2Fx",
    ):  # fmt: skip
        answer = await api.get(f"/v1/leads/{path}")
        assert (answer.status, answer.error["code"]) == (404, "not_found"), path
    assert (await api.get(f"/v1%2Fleads/{lead_id}")).status == 404


async def test_another_asgi_server_can_run_the_app(settings: Settings) -> None:
    transport = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://leadlog.test") as client:
        answer = await client.get("/nowhere", headers=[("accept", "a"), ("accept", "b")])
    assert answer.status_code == 404
    assert answer.headers["x-request-id"]


def test_repeated_fields_are_joined_and_the_first_of_a_single_field_counts() -> None:
    headers = [
        (b"accept", b"a"), (b"authorization", b"1"), (b"cookie", b"a=1"), (b"accept", b"b"),
        (b"authorization", b"2"), (b"cookie", b"b=2"),
    ]  # fmt: skip
    wanted = {b"accept": b"a, b", b"authorization": b"1", b"cookie": b"a=1; b=2"}
    assert collect_fields(headers) == wanted
