"""Connections kept and connections dropped, against raw servers that count what they get."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator

import pytest
from aiohappyeyeballs import AddrInfoType

from tests.rawserver import CHUNKED, OK, Server, first_ok_then, post, run, say
from workers.delivery.connections import Connections, make_room
from workers.delivery.egress import GuardedResolver, UnknownNameError
from workers.delivery.sender import Target, send


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    connections = Connections(private=True)
    yield connections
    await connections.close()


@pytest.mark.parametrize(
    "answer",
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
    connections: Connections, answer: bytes
) -> None:
    async with run(say(answer)) as server:
        attempts = [await post(connections, server) for _ in range(5)]
    assert server.requests == [5]
    assert [attempt.connect_ms is None for attempt in attempts] == [False] + [True] * 4
    assert {attempt.truncated for attempt in attempts} == {False}


async def test_as_many_connections_as_requests_at_once_and_no_more(
    connections: Connections,
) -> None:
    async with run(say(OK)) as server:
        for _ in range(4):
            await asyncio.gather(*(post(connections, server) for _ in range(6)))
    assert len(server.requests) <= 6
    assert sum(server.requests) == 24


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 500 Poison\r\nContent-Length: 0\r\n\r\n",
        OK + b"garbage",
        CHUNKED + b"HTTP/1.1 500 Poison\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000,
    ],
    ids=["closing", "old", "two answers", "garbage", "half an answer more", "long"],
)
async def test_a_connection_that_has_more_or_less_to_say_is_not_used_again(
    connections: Connections, answer: bytes
) -> None:
    async with run(say(answer)) as server:
        attempts = [await post(connections, server) for _ in range(3)]
    assert [attempt.status for attempt in attempts] == [200, 200, 200]
    assert server.requests == [1, 1, 1]


async def test_an_answer_that_nobody_asked_for_never_meets_the_next_delivery(
    connections: Connections,
) -> None:
    poison = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    said = asyncio.Event()

    async def speak(_: Server, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(poison)
        said.set()

    async with run(speak) as server:
        first = await post(connections, server)
        await said.wait()
        await asyncio.sleep(0.05)
        second = await post(connections, server)
    assert (first.status, second.status, server.requests) == (200, 200, [1, 1])


async def test_the_end_of_the_connection_is_the_end_of_a_body_without_length(
    connections: Connections,
) -> None:
    async with run(say(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True)) as server:
        attempt = await post(connections, server)
    assert (attempt.body, attempt.truncated, attempt.error) == (b"all of it", False, None)


async def test_a_connection_that_went_stale_is_replaced_once(connections: Connections) -> None:
    async with run(first_ok_then(say(b"", close=True))) as server:
        await post(connections, server)
        attempt = await post(connections, server)
    assert (attempt.error, server.requests) == ("connection_lost", [2, 1])


async def test_nothing_is_said_twice_to_one_that_had_begun_to_answer(
    connections: Connections,
) -> None:
    async with run(first_ok_then(say(b"HTTP/1.1 2", close=True))) as server:
        await post(connections, server)
        attempt = await post(connections, server)
    assert (attempt.error, server.requests) == ("connection_lost", [2])


async def test_nothing_is_said_twice_to_one_that_hangs_up_at_once(
    connections: Connections,
) -> None:
    async with run(say(b"", close=True)) as server:
        attempt = await post(connections, server)
    assert (attempt.error, server.requests) == ("connection_lost", [1])


async def test_a_connection_whose_answer_came_too_late_is_not_used_again(
    connections: Connections,
) -> None:
    async with run(
        first_ok_then(say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"))
    ) as server:
        await post(connections, server)
        late = await post(connections, server, timeout_s=0.2)
        server.speak = say(OK)
        after = await post(connections, server)
    assert (late.status, late.body, late.truncated) == (200, b"abc", True)
    assert (after.body, server.requests) == (b"ok", [2, 1])


async def test_an_answer_before_the_end_of_the_request_counts(connections: Connections) -> None:
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with run(say(answer)) as server:
        attempt = await post(connections, server, b"x" * 30_000_000)
        server.speak = say(OK)
        after = await post(connections, server)
    assert (attempt.status, attempt.error) == (413, "status")
    assert (after.status, server.requests) == (200, [1, 1])


async def test_endless_interim_answers_are_refused(connections: Connections) -> None:
    async with run(say(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 5000)) as server:
        attempt = await post(connections, server)
    assert (attempt.status, attempt.error) == (None, "bad_answer")


async def test_idle_connections_are_bounded_in_time_and_number(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run(say(OK)) as server:
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
        self.asked: list[str] = []
        self.fails = False

    async def look_up(self, host: str, port: int) -> list[AddrInfoType]:
        self.asked.append(host)
        await asyncio.sleep(0.01)
        if self.fails:
            raise UnknownNameError("the name server is away")
        return list(socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM))


async def test_a_name_is_looked_up_once_for_all_unless_that_failed() -> None:
    resolver = CountingResolver()
    connections = Connections(private=True, resolver=resolver)
    url = "http://hook.test:{}/"
    async with run(say(OK)) as server:
        target = Target(
            1, True, "wh_1", url.format(server.port), (b"k",), {}, 5.0, False, "", None, 0
        )
        resolver.fails = True
        failed = await asyncio.gather(*(send(connections, target, "e", 1, b"") for _ in range(3)))
        resolver.fails = False
        sent = await asyncio.gather(*(send(connections, target, "e", 1, b"") for _ in range(3)))
    await connections.close()
    assert {attempt.error for attempt in failed} == {"dns"}
    assert {attempt.status for attempt in sent} == {200}
    assert resolver.asked == ["hook.test"] * 2


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
def test_idle_connections_leave_files_for_others(
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    asked: list[tuple[int, int]],
    idle: int,
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: set_to.append(limits))
    assert (make_room(), set_to) == (idle, asked)
