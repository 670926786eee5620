"""Tests which connections are reused, with raw servers that count the requests per connection."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator

import pytest
from aiohappyeyeballs import AddrInfoType

from tests.loopback.raw_server import (
    CHUNKED,
    OK,
    Server,
    first_ok_then,
    make_endpoint_config,
    post,
    run,
    write,
)
from workers.delivery.connections import Connections, choose_max_idle
from workers.delivery.egress import GuardedResolver, UnknownNameError
from workers.delivery.sender import send


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    connections = Connections(private=True)
    yield connections
    await connections.close()


@pytest.mark.parametrize(
    "response",
    [
        OK,
        CHUNKED,
        b"HTTP/1.1 204 No\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_one_connection_serves_one_request_after_another(
    connections: Connections, response: bytes
) -> None:
    async with run(write(response)) as server:
        attempts = [await post(connections, server) for _ in range(5)]
    assert server.requests == [5]
    assert [attempt.connect_ms is None for attempt in attempts] == [False] + [True] * 4
    assert {attempt.truncated for attempt in attempts} == {False}


async def test_there_are_no_more_connections_than_concurrent_requests(
    connections: Connections,
) -> None:
    async with run(write(OK)) as server:
        for _ in range(4):
            await asyncio.gather(*(post(connections, server) for _ in range(6)))
    assert len(server.requests) <= 6
    assert sum(server.requests) == 24


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 500 Poison\r\nContent-Length: 0\r\n\r\n",
        OK + b"garbage",
        CHUNKED + b"HTTP/1.1 500 Poison\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000,
    ],
    ids=["closing", "old", "two responses", "garbage", "half a second response", "long"],
)
async def test_a_connection_is_not_reused_after_an_irregular_response(
    connections: Connections, response: bytes
) -> None:
    async with run(write(response)) as server:
        attempts = [await post(connections, server) for _ in range(3)]
    assert [attempt.status for attempt in attempts] == [200, 200, 200]
    assert server.requests == [1, 1, 1]


async def test_an_unsolicited_response_is_never_taken_for_the_next_delivery(
    connections: Connections,
) -> None:
    poison = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    written = asyncio.Event()

    async def respond(_: Server, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(poison)
        written.set()

    async with run(respond) as server:
        first = await post(connections, server)
        await written.wait()
        await asyncio.sleep(0.05)
        second = await post(connections, server)
    assert (first.status, second.status, server.requests) == (200, 200, [1, 1])


async def test_a_body_without_length_ends_with_its_connection(
    connections: Connections,
) -> None:
    async with run(write(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True)) as server:
        attempt = await post(connections, server)
    assert (attempt.body, attempt.truncated, attempt.error) == (b"all of it", False, None)


async def test_a_connection_that_went_stale_is_replaced_once(connections: Connections) -> None:
    async with run(first_ok_then(write(b"", close=True))) as server:
        await post(connections, server)
        attempt = await post(connections, server)
    assert (attempt.error, server.requests) == ("connection_lost", [2, 1])


async def test_a_request_is_not_repeated_after_the_first_byte_of_a_response(
    connections: Connections,
) -> None:
    async with run(first_ok_then(write(b"HTTP/1.1 2", close=True))) as server:
        await post(connections, server)
        attempt = await post(connections, server)
    assert (attempt.error, server.requests) == ("connection_lost", [2])


async def test_a_request_is_not_repeated_on_a_new_connection_that_closes_at_once(
    connections: Connections,
) -> None:
    async with run(write(b"", close=True)) as server:
        attempt = await post(connections, server)
    assert (attempt.error, server.requests) == ("connection_lost", [1])


async def test_a_connection_is_not_reused_after_a_timeout(
    connections: Connections,
) -> None:
    async with run(
        first_ok_then(write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"))
    ) as server:
        await post(connections, server)
        late = await post(connections, server, timeout_s=0.2)
        server.respond = write(OK)
        after = await post(connections, server)
    assert (late.status, late.body, late.truncated) == (200, b"abc", True)
    assert (after.body, server.requests) == (b"ok", [2, 1])


async def test_a_response_before_the_end_of_the_request_counts(connections: Connections) -> None:
    response = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with run(write(response)) as server:
        attempt = await post(connections, server, b"x" * 30_000_000)
        server.respond = write(OK)
        after = await post(connections, server)
    assert (attempt.status, attempt.error) == (413, "status")
    assert (after.status, server.requests) == (200, [1, 1])


async def test_endless_interim_responses_are_rejected(connections: Connections) -> None:
    async with run(write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 5000)) as server:
        attempt = await post(connections, server)
    assert (attempt.status, attempt.error) == (None, "invalid_response")


async def test_idle_connections_are_bounded_in_time_and_number(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run(write(OK)) as server:
        connections._max_idle = 2
        await asyncio.gather(*(post(connections, server) for _ in range(5)))
        assert connections._count == 2
        monkeypatch.setattr("workers.delivery.connections.MAX_IDLE_S", 0.0)
        opened = len(server.requests)
        attempt = await post(connections, server)
        assert attempt.connect_ms is not None
        assert len(server.requests) == opened + 1
        connections._sweep()
        assert (connections._count, connections._idle) == (0, {})


class CountingResolver(GuardedResolver):
    def __init__(self) -> None:
        super().__init__(private=True)
        self.hosts: list[str] = []
        self.fails = False

    async def look_up(self, host: str, port: int) -> list[AddrInfoType]:
        self.hosts.append(host)
        await asyncio.sleep(0.01)
        if self.fails:
            raise UnknownNameError("the name server is away")
        return list(socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM))


async def test_concurrent_requests_share_a_look_up_and_a_failed_one_is_repeated() -> None:
    resolver = CountingResolver()
    connections = Connections(private=True, resolver=resolver)
    async with run(write(OK)) as server:
        endpoint = make_endpoint_config(f"http://hook.test:{server.port}/")
        resolver.fails = True
        failed = await asyncio.gather(*(send(connections, endpoint, "e", 1, b"") for _ in range(3)))
        resolver.fails = False
        sent = await asyncio.gather(*(send(connections, endpoint, "e", 1, b"") for _ in range(3)))
    await connections.close()
    assert {attempt.error for attempt in failed} == {"dns"}
    assert {attempt.status for attempt in sent} == {200}
    assert resolver.hosts == ["hook.test"] * 2


@pytest.mark.parametrize(
    ("limits", "asked", "idle"),
    [
        ((1024, 4096), [(4096, 4096)], 2000),
        ((1024, resource.RLIM_INFINITY), [(4096, resource.RLIM_INFINITY)], 2000),
        ((256, 1024), [(1024, 1024)], 424),
        ((256, 256), [(256, 256)], 0),
        ((8192, 8192), [], 2000),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), [], 2000),
    ],
)
def test_idle_connections_leave_open_files_for_other_uses(
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    asked: list[tuple[int, int]],
    idle: int,
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: set_to.append(limits))
    assert (choose_max_idle(), set_to) == (idle, asked)
