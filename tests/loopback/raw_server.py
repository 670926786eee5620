"""A server on loopback that writes given bytes and counts the requests of each connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from workers.delivery.connections import Connections
from workers.delivery.sender import Attempt, EndpointConfig, send

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
Respond = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Calls `respond` after each request; `requests` counts them by connection."""

    respond: Respond
    port: int = 0
    requests: list[int] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = len(self.requests)
        self.requests.append(0)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests[connection] += 1
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if length < 2**20:
                    await reader.readexactly(length)
                await self.respond(self, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def write(response: bytes, *, close: bool = False) -> Respond:
    async def respond(_: Server, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        await writer.drain()
        if close:
            writer.close()

    return respond


def first_ok_then(then: Respond) -> Respond:
    async def respond(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await (write(OK) if sum(server.requests) == 1 else then)(server, reader, writer)

    return respond


@asynccontextmanager
async def run(respond: Respond, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(respond)
    tasks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(server.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def make_endpoint_config(
    url: str, *, timeout_s: float = 5.0, headers: Mapping[str, str] | None = None
) -> EndpointConfig:
    return EndpointConfig(
        tenant_id=1,
        live=True,
        id="wh_1",
        url=url,
        keys=(b"k" * 24,),
        headers=dict(headers or {}),
        timeout_s=timeout_s,
        thin=False,
        retry="standard",
        rate_limit=None,
        trips=0,
    )


async def post(
    connections: Connections,
    server: Server,
    body: bytes = b"{}",
    scheme: str = "http",
    timeout_s: float = 5.0,
) -> Attempt:
    """Sends one webhook request to the server."""
    url = f"{scheme}://127.0.0.1:{server.port}/"
    endpoint = make_endpoint_config(url, timeout_s=timeout_s)
    return await send(connections, endpoint, "evt_1", 1, body)
