"""An Upgrade header is ignored: the body stays a body, and no part of it is read as a request."""

import asyncio
import json
import secrets

import pytest

from tests.harness.api_client import Api
from tests.loopback.raw_http import RawResponse, connect, make_request

UPGRADE_HEADERS = {
    "h2c": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAI"],
    "websocket": [
        "Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ],
    "tls": ["Upgrade: TLS/1.0", "Connection: upgrade"],
    "unknown": ["Connection: Upgrade", "Upgrade: foo"],
    "several": ["Connection: Upgrade", "Upgrade: foo, h2c", "upgrade: websocket"],
}  # fmt: skip
CHUNKED = "Transfer-Encoding: chunked"


def make_lead() -> bytes:
    return json.dumps({"email": f"{secrets.token_hex(8)}@upgrade.example.com"}).encode()


def make_message(
    method: str, path: str, lines: list[str], key: str, body: bytes, how: str
) -> bytes:
    """A request whose body is sent with its length or in chunks."""
    if how == "length":
        return make_request(method, path, *lines, key=key, body=body)
    half = len(body) // 2
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:])]
    head = make_request(method, path, *lines, CHUNKED, key=key)
    return head + b"".join((*chunks, b"0\r\n\r\n"))


@pytest.mark.parametrize("pause", ["none", "after the head", "in the body", "in the head"])
@pytest.mark.parametrize("how", ["length", "chunks"])
@pytest.mark.parametrize("wish", UPGRADE_HEADERS)
async def test_a_request_for_an_upgrade_is_served_like_any_other(
    api: Api, wish: str, how: str, pause: str
) -> None:
    smuggled = make_request("POST", "/v1/leads", key=api.key, body=make_lead())
    before = await count_leads(api)
    first = make_message("POST", "/v1/leads", UPGRADE_HEADERS[wish], str(api.key), make_lead(), how)
    second = make_message("GET", "/health/live", UPGRADE_HEADERS[wish], str(api.key), smuggled, how)
    last = make_request("GET", "/v1/leads/lead_none", "X-Request-Id: the-last", key=api.key)
    answers: list[RawResponse] = []
    async with connect(api.url) as wire:
        for request in (first, second):
            head = request.index(b"\r\n\r\n") + 4
            cut = {"none": len(request), "after the head": head, "in the head": 30}.get(
                pause, len(request) - 10
            )
            await wire.send(request[:cut])
            await asyncio.sleep(0.02 if cut < len(request) else 0)
            await wire.send(request[cut:] + (last if request is second else b""))
        answers = [await wire.read_response() for _ in range(3)]
        assert [answer.status for answer in answers] == [201, 200, 404]
        assert answers[-1].headers["x-request-id"] == "the-last"
        await wire.send(make_request("GET", "/health/live", "Connection: close"))
        assert (await wire.read_response()).status == 200
        assert await wire.ends()
    assert await count_leads(api) == before + 1


async def count_leads(api: Api) -> int:
    found: int = (await api.get("/v1/leads", limit=1)).json["pagination"]["total"]
    return found


async def test_many_pipelined_upgrades_get_their_responses_in_order(api: Api) -> None:
    requests = [
        make_message(
            "GET",
            "/health/live",
            [*UPGRADE_HEADERS["h2c"], f"X-Request-Id: n{n}"],
            "",
            b"ab" * (n + 1),
            how,
        )
        for n, how in enumerate(["length", "chunks"] * 20)
    ]
    async with connect(api.url) as wire:
        await wire.send(b"".join(requests))
        for n in range(len(requests)):
            answer = await wire.read_response()
            assert answer.headers["x-request-id"] == f"n{n}", answer


async def test_connect_opens_no_tunnel(api: Api) -> None:
    smuggled = make_request("POST", "/v1/leads", key=api.key, body=make_lead())
    before = await count_leads(api)
    for target in ("leadlog.test:443", "/v1/leads"):
        for lines in ([], ["Content-Length: 5"], [CHUNKED], UPGRADE_HEADERS["h2c"]):
            async with connect(api.url) as wire:
                await wire.send(make_request("CONNECT", target, *lines) + smuggled)
                answer = await wire.read_response()
                assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
                assert "GET" in answer.headers["allow"]
                await wire.send(smuggled)
                assert await wire.ends()
    assert await count_leads(api) == before


async def test_trailers_are_not_read_as_headers(api: Api) -> None:
    head = make_request("POST", "/v1/leads", CHUNKED)
    lead = make_lead()
    trailers = f"Authorization: Bearer {api.key}\r\nUpgrade: h2c\r\nHost: x\r\n\r\n".encode()
    whole = head + b"%x\r\n%b\r\n0\r\n%b" % (len(lead), lead, trailers)
    async with connect(api.url) as wire:
        for pieces in ([whole], [head, whole[len(head) :]]):
            for piece in pieces:
                await wire.send(piece)
            assert (await wire.read_response()).status == 401
