"""A client cannot occupy all connections: the largest caller loses waiting connections first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from service.events import long_poll
from service.http.server import connections
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.loopback.memory_server import MemoryServer, Recorder
from tests.loopback.raw_http import RawConnection, connect, make_request

HEALTH = make_request("GET", "/health/live")
PLACES = 20


@pytest.fixture
async def small(settings: Settings) -> AsyncIterator[str]:
    """A server that accepts 20 connections."""
    async with serve_api(replace(settings, max_connections=PLACES)) as url:
        yield url


async def dial(url: str, source: str, stack: AsyncExitStack) -> RawConnection:
    """Connects from the address `source` of this machine."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, local_addr=(source, 0)
    )
    stack.callback(writer.close)
    return RawConnection(reader, writer)


async def is_served(wire: RawConnection) -> bool:
    await wire.send(HEALTH)
    try:
        return (await wire.read_response()).status == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


@pytest.mark.parametrize(
    "kind", ["dripping bodies", "long polls", "queued polls", "half heads", "unread"]
)
async def test_waiting_connections_of_one_address_lock_out_no_other_address(
    settings: Settings, api: Api, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "queued polls":
        monkeypatch.setattr(long_poll, "READS_AT_ONCE", 0)
    drip = make_request("POST", "/v1/leads", "Content-Length: 9", key=api.key) + b"{"
    sent = {
        "dripping bodies": drip,
        "long polls": make_request("GET", "/v1/events?after=latest&wait=30", key=api.key),
        "queued polls": make_request("GET", "/v1/events?wait=30", key=api.key),
        "half heads": HEALTH[:-2],
        "unread": make_request("GET", "/openapi.json") * 200,
    }[kind]  # fmt: skip
    async with (
        serve_api(replace(settings, max_connections=PLACES)) as small,
        AsyncExitStack() as stack,
    ):
        quiet = await dial(small, "127.0.0.2", stack)
        assert await is_served(quiet)
        for _ in range(3 * PLACES):
            await (await dial(small, "127.0.0.1", stack)).send(sent)
        for source in ("127.0.0.3", "127.0.0.4", "127.0.0.5"):  # one reserved place is not enough
            async with asyncio.timeout(10):  # the last polls do not wait yet
                while not await is_served(await dial(small, source, stack)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert await is_served(quiet)


async def test_connections_from_one_proxy_are_counted_for_their_keys(small: str, api: Api) -> None:
    ask = make_request("GET", "/v1/leads?limit=1", key=api.as_("read").key)
    drip = make_request("POST", "/v1/leads", "Content-Length: 9", key=api.key) + b"{"
    async with AsyncExitStack() as stack:
        quiet = await stack.enter_async_context(connect(small))
        first = await stack.enter_async_context(connect(small))
        for wire, request in ((quiet, ask), (first, make_request("GET", "/v1/leads", key=api.key))):
            await wire.send(request)
            assert (await wire.read_response()).status == 200
        for _ in range(3 * PLACES):
            await (await stack.enter_async_context(connect(small))).send(drip)
            await asyncio.sleep(0.005)
        await quiet.send(ask)
        assert (await quiet.read_response()).status == 200


async def test_the_long_polls_of_a_tenant_are_limited_and_end_when_their_client_leaves(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_poll, "TENANT_LISTENERS", 2)
    latest = (await api.get("/v1/events", after="latest")).json["pagination"]["nextCursor"]
    poll = make_request("GET", f"/v1/events?after={latest}&wait=30", key=api.key)
    async with connect(api.url) as third:
        async with connect(api.url) as first, connect(api.url) as second:
            for wire in (first, second):
                await wire.send(poll)
            await asyncio.sleep(0.2)
            await third.send(poll)
            answer = await third.read_response()  # at once: no more polls may wait
            assert (answer.status, b'"data":[]' in answer.body) == (200, True)
        async with asyncio.timeout(10):
            while True:  # until the first two polls have ended
                await third.send(poll)
                try:
                    async with asyncio.timeout(1):
                        await third.read_response()
                except TimeoutError:
                    return


class Patient(Recorder):
    """An app that never responds to /wait."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            await asyncio.Event().wait()
        await super().__call__(scope, receive, send)


@pytest.mark.parametrize("kind", ["bodies", "heads", "many fields", "pipelined"])
async def test_the_memory_held_for_all_clients_has_one_limit(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(connections, "HELD_LIMIT_BYTES", 1_000_000)
    fields = b"".join(b"a%d:\r\n" % n for n in range(250))
    sent = {
        "bodies": make_request("POST", "/", "Content-Length: 262144") + b"{" * 250_000,
        "heads": HEALTH[:-2] + b"".join(b"X%d: %b\r\n" % (n, b"a" * 4000) for n in range(15)),
        "many fields": HEALTH[:-2] + fields,
        "pipelined": make_request("GET", "/wait") + HEALTH * 5000,
    }[kind]
    server = MemoryServer(Patient())
    honest, kept = server.connect()
    honest.owner = "honest"
    honest.data_received(make_request("POST", "/", "Content-Length: 2000") + b"{" * 1000)
    held = []
    for _ in range(60):
        conn, transport = server.connect()
        held.append((conn, transport))
        for begin in range(0, len(sent), 50_000):
            if not (transport.is_closed or transport.is_paused):
                conn.data_received(sent[begin : begin + 50_000])
                await asyncio.sleep(0)
    kept_open = [conn for conn, transport in held if not transport.is_closed]
    assert 0 < len(kept_open) < 60
    assert sum(conn.held_bytes for conn in kept_open) <= 1_000_000
    honest.data_received(b"{" * 1000)
    await server.settle()
    assert b"200 OK" in kept.written
    for conn, _ in held:
        conn.connection_lost(None)
    tasks = list(server._state.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
async def test_a_burst_closes_no_idle_connections_of_a_modest_caller(
    settings: Settings, api: Api, source: str
) -> None:
    modest = make_request("GET", "/v1/leads?limit=1", key=api.as_("read").key)
    burst = make_request("GET", "/v1/leads?limit=1", key=api.key) * 20
    async with (
        serve_api(replace(settings, max_connections=200)) as small,
        AsyncExitStack() as stack,
    ):
        pooled = [await dial(small, "127.0.0.1", stack) for _ in range(20)]
        for wire in pooled:
            await wire.send(modest)
            assert (await wire.read_response(timeout_s=30)).status == 200
        for _ in range(5):
            crowd = await asyncio.gather(*(dial(small, source, stack) for _ in range(100)))
            await asyncio.gather(*(wire.send(burst) for wire in crowd), return_exceptions=True)
        for wire in pooled:
            await wire.send(modest)
            assert (await wire.read_response(timeout_s=30)).status == 200
