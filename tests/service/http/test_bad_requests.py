"""Requests that are invalid as HTTP: methods, headers, sizes, speed. No input causes a 500."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.loopback.raw_http import connect, make_request

pytestmark = pytest.mark.usefixtures("nothing_written")

TOO_LARGE = b'{"email": "a@example.com", "name": "' + b"x" * 300 * 1024 + b'"}'
VALID = b'{"email": "valid@example.com"}'


@pytest.fixture(scope="module")
async def impatient(settings: Settings) -> AsyncIterator[str]:
    """A server that waits 0.2 s for a body."""
    async with serve_api(replace(settings, body_timeout_s=0.2)) as url:
        yield url


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", "{key}", "Basic {key}", "Token {key}", "Bearer {key} x",
        "Bearer {key}x", "Bearer sk_live_", "Bearer sk_prod_0123456789abcdef0123456789abcdef",
        "Bearer sk_live_0123456789abcdef0123456789abcdef", "Bearer ÿ", "Bearer, {key}",
        "Bearer " + "a" * 10_000, "Bearer sk_live_" + "'; DROP TABLE lead; --", "Bearer null",
    ],
)  # fmt: skip
async def test_an_authorization_header_without_a_working_key_is_401(
    api: Api, header: str | None
) -> None:
    lines = [] if header is None else [f"Authorization: {header.format(key=api.key)}"]
    async with connect(api.url) as wire:
        for method, path in (("GET", "/v1/leads/x"), ("POST", "/v1/leads")):
            await wire.send(make_request(method, path, *lines, body=VALID))
            answer = await wire.read_response()
            assert (answer.status, answer.error["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_scheme_may_be_in_any_case_with_several_spaces_after_it(api: Api) -> None:
    for scheme in ("bearer", "BEARER", "Bearer", "Bearer  "):
        headers = {"Authorization": f"{scheme} {api.key}"}
        answer = await api.with_key(None).call("GET", "/v1/api-keys", headers=headers)
        assert answer.status == 200


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PATCH", "DELETE"])
async def test_an_unsupported_method_is_405_and_the_response_lists_the_supported_methods(
    api: Api, method: str
) -> None:
    body = None if method == "TRACE" else VALID
    for path, allowed in (("/v1/leads", "POST"), ("/api/v1/leads", "POST"), ("/docs", "GET")):
        answer = await api.call(method, path, body)
        assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
        assert allowed in answer.headers["allow"].split(", ")


async def test_a_response_to_head_has_the_head_of_get_and_no_body(api: Api) -> None:
    for path, status in (("/v1/api-keys", 200), ("/v1/leads/x", 404), ("/nowhere", 404)):
        async with connect(api.url) as wire:
            await wire.send(make_request("HEAD", path, key=api.key))
            head = await wire.read_response(has_body=False)
            await wire.send(make_request("GET", path, key=api.key))
            full = await wire.read_response()
        assert head.status == full.status == status
        assert head.headers["content-type"] == "application/json"
        assert head.headers["content-length"] == full.headers["content-length"]


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: text/plain"],
        ["Content-Type: application/x-www-form-urlencoded"],
        ["Content-Type: multipart/form-data; boundary=x"],
        ["Content-Type: application/json; charset=iso-8859-1"],
        ["Content-Type: application/json; charset=utf-16"],
        ["Content-Type: application/json; a=b; charset=latin1"],
        ["Content-Type: application/jsonx"],
        ["Content-Type: , application/json"],
        ["Content-Type:"],
        ["Content-Type: application/json", "Content-Encoding: gzip"],
        ["Content-Encoding: br"],
    ],
)
async def test_a_body_that_is_not_declared_as_plain_json_is_415(api: Api, lines: list[str]) -> None:
    for method, path in (("POST", "/v1/leads"), ("PATCH", "/v1/leads/x")):
        async with connect(api.url) as wire:
            await wire.send(make_request(method, path, *lines, key=api.key, body=VALID))
            answer = await wire.read_response()
        assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Content-Type: application/json"],
        ["Content-Type: APPLICATION/JSON;charset=UTF-8"],
        ['Content-Type: application/json; charset="utf-8"'],
        ["Content-Type: application/merge-patch+json; v=1"],
        ["Content-Type: application/json;", "Content-Encoding: identity"],
    ],
)
async def test_json_may_be_declared_in_other_forms_or_not_at_all(
    api: Api, lines: list[str]
) -> None:
    async with connect(api.url) as wire:
        await wire.send(make_request("PATCH", "/v1/leads/x", *lines, key=api.key, body=VALID))
        assert (await wire.read_response()).status == 404


async def test_a_body_of_300_kib_is_413_however_it_is_sent(api: Api) -> None:
    size = f"{len(TOO_LARGE):x}".encode()
    chunked = size + b"\r\n" + TOO_LARGE + b"\r\n0\r\n\r\n"
    for lines, body in (([], TOO_LARGE), (["Transfer-Encoding: chunked"], chunked)):
        async with connect(api.url) as wire:
            await wire.send(make_request("POST", "/v1/leads", *lines, key=api.key, body=body))
            answer = await wire.read_response()
            assert (answer.status, answer.error["code"]) == (413, "payload_too_large")
            await wire.send(make_request("GET", "/v1/leads/x", key=api.key))
            assert (await wire.read_response()).status == 404


async def test_413_comes_before_the_body_has_been_sent(api: Api) -> None:
    head = make_request("POST", "/v1/leads", "Content-Length: 1000000000", key=api.key)
    async with connect(api.url) as wire:
        await wire.send(head)
        assert (await wire.read_response()).status == 413
    chunked = make_request("POST", "/v1/leads", "Transfer-Encoding: chunked", key=api.key)
    async with connect(api.url) as wire:
        await wire.send(chunked)
        for _ in range(5):
            await wire.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        assert (await wire.read_response()).status == 413
        await wire.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")  # the client has not read yet


async def test_no_100_continue_is_sent_for_a_body_that_would_be_refused(api: Api) -> None:
    expect = "Expect: 100-continue"
    async with connect(api.url) as wire:
        lines = (expect, f"Content-Length: {len(TOO_LARGE)}")
        await wire.send(make_request("POST", "/v1/leads", *lines, key=api.key))
        assert (await wire.read_response()).status == 413
    async with connect(api.url) as wire:
        lines = (expect, f"Content-Length: {len(VALID)}")
        await wire.send(make_request("PATCH", "/v1/leads/x", *lines, key=api.key))
        assert (await wire.read_response()).status == 100
        await wire.send(VALID)
        assert (await wire.read_response()).status == 404


async def test_a_body_that_does_not_arrive_in_time_is_refused_and_cut_off(
    api: Api, impatient: str
) -> None:
    lines = (f"Content-Length: {len(VALID)}",)
    async with connect(impatient) as wire:
        await wire.send(make_request("POST", "/v1/leads", *lines, key=api.key) + VALID[:5])
        answer = await wire.read_response()
        assert (answer.status, answer.error["details"][0]["code"]) == (400, "too_slow")
        assert await wire.ends()


async def test_a_client_that_leaves_during_its_body_changes_nothing(api: Api) -> None:
    lines = (f"Content-Length: {len(VALID)}",)
    async with connect(api.url) as wire:
        await wire.send(make_request("POST", "/v1/leads", *lines, key=api.key) + VALID[:-1])
    async with asyncio.timeout(5):
        assert (await api.get("/health/live")).status == 200


async def test_a_connection_survives_every_refusal(api: Api) -> None:
    requests = [
        (make_request("GET", "/v1/leads/x"), 401),
        (make_request("GET", "/v1/leads/x", key=api.key), 404),
        (make_request("PUT", "/v1/leads", key=api.key, body=VALID), 405),
        (make_request("POST", "/v1/leads", key=api.key, body=b"{"), 400),
        (make_request("POST", "/v1/leads", "Content-Type: a/b", key=api.key, body=VALID), 415),
        (make_request("POST", "/v1/leads", key=api.key, body=b'{"email": "x"}'), 422),
        (make_request("POST", "/v1/leads", key=api.key, body=TOO_LARGE), 413),
        (make_request("GET", "/health/live"), 200),
    ]
    async with connect(api.url) as wire:
        for request, status in requests:
            await wire.send(request)
            assert (await wire.read_response()).status == status
    async with connect(api.url) as wire:  # all at once: responses in order
        await wire.send(b"".join(request for request, _ in requests))
        assert [(await wire.read_response()).status for _ in requests] == [s for _, s in requests]


@pytest.mark.parametrize(
    "path",
    [
        "/v1", "/v1/", "/v1/leads/", "//v1/leads", "/v1//leads", "/V1/leads", "/v2/leads",
        "/v1/leads/x/y", "/v1/leads/../api-keys", "/v1/%6Ceads%00", "/etc/passwd", "/docs/a/b",
        "/health", "/api/health/live", "/\u00ff", "/" + "a" * 15_000,
    ],
)  # fmt: skip
async def test_a_path_that_is_no_route_is_404(api: Api, path: str) -> None:
    async with connect(api.url) as wire:
        await wire.send(make_request("GET", path, key=api.key))
        answer = await wire.read_response()
    codes = {404: "not_found", 400: "invalid_request"}  # 400: invalid HTTP
    assert answer.error["code"] == codes[answer.status]
    assert (answer.status == 400) == (not path.isascii())
    assert len(answer.body) < 1000


async def test_absurd_headers_do_no_harm(api: Api) -> None:
    absurd = [
        [f"X-{n}: {'v' * 1000}" for n in range(60)],
        ["X-Long: " + "v" * 15_000],
        ["X-Request-Id: " + "r" * 5_000],
        ["Cookie: a=b; " * 100, "Accept: image/png", "Range: bytes=0-1"],
        ["If-Match: *", "X-HTTP-Method-Override: DELETE", "Content-Length: 0"],
        ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x"],
    ]
    for lines in absurd:
        async with connect(api.url) as wire:
            await wire.send(make_request("GET", "/v1/leads/x", *lines, key=api.key))
            answer = await wire.read_response()
            assert (answer.status, answer.error["code"]) == (404, "not_found")
            assert len(answer.headers["x-request-id"]) < 101


@pytest.mark.parametrize(
    "request_head",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /v1/leads HTTP/9.9\r\n\r\n",
        b"FOO /v1/leads HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/leads HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/leads HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/leads HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX Bad: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    ],
)
async def test_invalid_http_is_400(api: Api, request_head: bytes) -> None:
    async with connect(api.url) as wire:
        await wire.send(request_head)
        assert (await wire.read_response()).status == 400
