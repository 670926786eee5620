"""A server on loopback that writes the bytes it is told, and counts requests per connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from workers.delivery.connections import Connections
from workers.delivery.sender import Attempt, Target, send

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
Speak = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Answers each request with the bytes that `speak` writes; `requests` per connection."""

    speak: Speak
    port: int = 0
    requests: list[int] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(self.requests)
        self.requests.append(0)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests[place] += 1
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if length < 2**20:
                    await reader.readexactly(length)
                await self.speak(self, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def say(answer: bytes, *, close: bool = False) -> Speak:
    async def speak(_: Server, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        if close:
            writer.close()

    return speak


def first_ok_then(then: Speak) -> Speak:
    async def speak(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await (say(OK) if sum(server.requests) == 1 else then)(server, reader, writer)

    return speak


@asynccontextmanager
async def run(speak: Speak, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(speak)
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(server.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def post(
    connections: Connections, server: Server, body: bytes = b"{}", scheme: str = "http",
    timeout_s: float = 5.0,
) -> Attempt:  # fmt: skip
    url = f"{scheme}://127.0.0.1:{server.port}/"
    target = Target(1, True, "wh_1", url, (b"k" * 24,), {}, timeout_s, False, "standard", None, 0)
    return await send(connections, target, "evt_1", 1, body)
