"""The event loop accepts many connections in each turn."""

import asyncio
import socket
from contextlib import ExitStack

from service.http.server.event_loop import ACCEPTED_PER_TURN, EventLoop

CONNECTIONS = 200


def dial_many(port: int, stack: ExitStack) -> None:
    for _ in range(CONNECTIONS):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))


async def count_turns() -> int:
    """The turns of the loop until a burst of connections is accepted."""
    accepted = 0

    class Counter(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal accepted
            accepted += 1
            transport.close()

    server = await asyncio.get_running_loop().create_server(Counter, "127.0.0.1", 0, backlog=2048)
    turns = 0
    with ExitStack() as stack:
        dial_many(server.sockets[0].getsockname()[1], stack)
        while accepted < CONNECTIONS:
            await asyncio.sleep(0)
            turns += 1
    server.close()
    await server.wait_closed()
    return turns


def test_a_burst_of_connections_is_accepted_in_few_turns() -> None:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(count_turns()) < 10 * CONNECTIONS / ACCEPTED_PER_TURN


async def find_open_port() -> tuple[int, bool]:
    """The port of a closed server, and whether it still accepts."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with socket.socket() as client:
        return port, client.connect_ex(("127.0.0.1", port)) == 0


def test_a_closed_server_accepts_no_connection() -> None:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        _, is_open = runner.run(find_open_port())
    assert not is_open
