"""The server's side of ASGI, for apps that respond in messages and for apps that fail."""

from typing import Any

import msgspec
import pytest

from service.http.server.fields import Headers
from tests.loopback.memory_server import MemoryServer
from tests.loopback.raw_http import make_request

GET = make_request("GET", "/")


async def ask(app: Any, *requests: bytes) -> tuple[bytes, bool]:
    """Sends requests; returns all written bytes and whether the connection was closed."""
    server = MemoryServer(app)
    conn, transport = server.connect()
    for request in requests:
        conn.data_received(request)
        await server.settle()
    closed = transport.is_closed
    conn.connection_lost(None)
    return bytes(transport.written), closed


def answer_with(headers: Headers, *bodies: bytes, status: int = 200) -> Any:
    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for n, body in enumerate(bodies):
            more = n < len(bodies) - 1
            await send({"type": "http.response.body", "body": body, "more_body": more})

    return app


async def test_a_body_without_a_length_is_chunked_or_ends_with_the_connection() -> None:
    app = answer_with([(b"X-A", b"b")], b"one", b"", b"two")
    written, closed = await ask(app, GET)
    head, _, body = written.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert not closed
    written, closed = await ask(app, GET.replace(b"1.1", b"1.0", 1))
    head, _, body = written.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert (body, closed) == (b"onetwo", True)


async def test_responses_to_head_and_with_204_or_304_have_no_body() -> None:
    for status in (204, 304):
        written, _ = await ask(answer_with([], b"", status=status), GET)
        assert written.endswith(b"\r\n\r\n")
        assert b"chunked" not in written
    written, closed = await ask(answer_with([], b"body"), GET.replace(b"GET", b"HEAD"), GET)
    assert written.count(b"HTTP/1.1 200") == 2
    assert written.count(b"body") == 1
    assert not closed


@pytest.mark.parametrize("bodies", [(b"abcd",), (b"ab",), (b"abc", b"d")])
async def test_a_body_of_another_length_than_content_length_closes_the_connection(
    bodies: tuple[bytes, ...],
) -> None:
    _, closed = await ask(answer_with([(b"content-length", b"3")], *bodies), GET)
    assert closed


async def test_an_app_that_fails_or_does_not_respond_causes_a_500_without_details() -> None:
    async def fail(_: Any, __: Any, ___: Any) -> None:
        raise RuntimeError("secret")

    async def ignore(_: Any, __: Any, ___: Any) -> None:
        pass

    for app in (fail, ignore, answer_with([(b"x", b"a\r\nb: c")], b"")):
        written, closed = await ask(app, GET)
        head, _, body = written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 500 ")
        assert b"x-request-id: req_" in head
        assert msgspec.json.decode(body)["error"]["code"] == "internal_error"
        assert b"secret" not in written
        assert not closed
    _, closed = await ask(answer_with([], b"begun"), GET.replace(b"1.1", b"1.0", 1))
    assert closed


async def test_the_app_is_told_that_the_client_has_left() -> None:
    heard: list[Any] = []

    async def app(_: Any, receive: Any, send: Any) -> None:
        heard.append(await receive())
        heard.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})

    server = MemoryServer(app)
    conn, _ = server.connect()
    conn.data_received(make_request("POST", "/", body=b"all"))
    await server.settle()
    assert [message["type"] for message in heard] == ["http.request"]
    conn.connection_lost(None)
    await server.settle()
    assert heard[-1]["type"] == "http.disconnect"
    conn.data_received(GET)
