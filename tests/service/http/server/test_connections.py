"""Clients can occupy only bounded resources of a process, and a request that waits for its client
does not count as a request in progress."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from service.http.server import protocol
from service.http.server.protocol import HttpProtocol
from service.http.server.write_progress import count_unacknowledged
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.loopback.memory_server import MemoryServer
from tests.loopback.raw_http import connect, make_request

LARGE = make_request("GET", "/openapi.json")


@pytest.fixture
async def impatient(settings: Settings) -> AsyncIterator[str]:
    """A server that accepts 20 connections and waits 0.5 s for a client to read."""
    async with serve_api(replace(settings, write_timeout_s=0.5, max_connections=20)) as url:
        yield url


def open_slow(url: str, stack: ExitStack) -> socket.socket:
    """Opens a connection whose client has a small receive buffer."""
    made = stack.enter_context(socket.socket())
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    parts = urlsplit(url)
    made.connect((parts.hostname, parts.port))
    made.setblocking(False)
    return made


async def test_clients_that_read_nothing_or_send_slowly_cause_no_refusal(api: Api) -> None:
    dripping = make_request("POST", "/v1/leads", "Content-Length: 100", key=api.key) + b"{"
    with ExitStack() as stack:
        for _ in range(105):
            open_slow(api.url, stack).send(LARGE * 60)
        for _ in range(110):
            open_slow(api.url, stack).send(dripping)
        for _ in range(10):
            await asyncio.sleep(0.02)
            answer = await api.get("/v1/leads", limit=1)
            assert answer.status == 200, answer.body


async def test_a_client_that_reads_nothing_is_cut_off_and_a_slow_client_is_not(
    impatient: str,
) -> None:
    count = 60
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        deaf, slow = open_slow(impatient, stack), open_slow(impatient, stack)
        deaf.send(LARGE * count)
        slow.send(LARGE[:-2] + b"Connection: close\r\n\r\n")
        found = bytearray()
        async with asyncio.timeout(60):
            while data := await loop.sock_recv(slow, 1024):
                found += data
                await asyncio.sleep(0.02)  # in total longer than the write timeout
            assert found.rstrip().endswith(b"}}")
            with pytest.raises(ConnectionResetError):  # noqa: PT012
                while await loop.sock_recv(deaf, 65536):
                    pass


async def test_requests_of_a_client_that_does_not_read_wait_in_the_network() -> None:
    server = MemoryServer(answer_at_length)
    conn, transport = server.connect()
    conn.pause_writing()
    for _ in range(50):
        if not transport.is_paused:
            conn.data_received(LARGE * 1000)
            await server.settle()
    assert not transport.written
    assert transport.is_paused
    assert len(conn._queue) <= protocol.SLICE_BYTES // len(LARGE) + 1
    assert len(conn._unparsed) <= 1000 * len(LARGE)
    conn.resume_writing()
    for _ in range(20):
        await server.settle()
    assert transport.written.count(b"HTTP/1.1 200") == 1000
    assert not transport.is_paused


async def answer_at_length(scope: Any, _: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


async def test_the_kernel_holds_little_for_a_client_that_reads_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[HttpProtocol] = []
    connection_made = HttpProtocol.connection_made

    def remember(self: HttpProtocol, transport: asyncio.BaseTransport) -> None:
        connection_made(self, transport)
        made.append(self)

    monkeypatch.setattr(HttpProtocol, "connection_made", remember)
    with ExitStack() as stack:
        deaf = open_slow(api.url, stack)
        deaf.send(make_request("GET", "/openapi.json") * 60)
        async with asyncio.timeout(20):
            while not (made and made[0].is_write_paused):  # noqa: ASYNC110  # the server has no event for it
                await asyncio.sleep(0.01)
        assert count_unacknowledged(made[0]._transport) <= 2 * protocol.SEND_BUFFER_BYTES


async def test_a_body_that_the_app_does_not_read_waits_in_the_network() -> None:
    released = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await released.wait()
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await answer_at_length(scope, receive, send)
        assert len(body) == 3_000_000

    server = MemoryServer(app)
    conn, transport = server.connect()
    conn.data_received(make_request("POST", "/whole", "Content-Length: 3000000"))
    left = 3_000_000
    while left:
        if transport.is_paused:
            assert left > 2_000_000
            released.set()
            await asyncio.sleep(0)
        else:
            conn.data_received(b"x" * min(left, 200_000))
            left -= min(left, 200_000)
        await asyncio.sleep(0)
    for _ in range(20):
        await server.settle()
    assert b"/whole" in transport.written


@pytest.mark.parametrize(
    "flood",
    [
        b"X: y\r\n" * 300 + b"\r\n", b"a:\r\n" * 70_000,
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"T: t\r\n" * 60_000,
        b"Transfer-Encoding: chunked\r\n\r\n1;" + b"e" * 300_000,
    ],
    ids=["fields", "more fields", "trailers", "chunk extensions"],
)  # fmt: skip
async def test_oversized_headers_trailers_and_chunk_extensions_are_refused(
    api: Api, flood: bytes
) -> None:
    async with connect(api.url) as wire:
        head = make_request("POST", "/v1/leads", key=api.key)[:-2]
        await wire.send(head + flood)
        assert (await wire.read_response()).status == 400
        assert await wire.ends()
