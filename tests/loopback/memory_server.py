"""The server's side of a connection without a socket: takes bytes, returns bytes."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.http.server.cycle import find_cycle
from service.http.server.protocol import make_protocol
from service.settings import Settings


@dataclass
class SeenRequest:
    """A request as the app received it; `body` is None if it was incomplete."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes | None = None


class MemoryTransport(asyncio.Transport):
    """A transport that accepts all written bytes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_closed = self.is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class MemoryServer:
    """Runs an app behind our protocol."""

    def __init__(self, app: ASGIApp) -> None:
        self._config = Config(app, lifespan="off", log_config=None, proxy_headers=False)
        self._config.load()
        self._state = ServerState()
        self._make: Any = make_protocol(Settings())

    def connect(self) -> tuple[Any, MemoryTransport]:
        """A protocol instance that is connected, and its transport."""
        protocol = self._make(
            config=self._config, server_state=self._state, app_state={}, _loop=None
        )
        transport = MemoryTransport()
        protocol.connection_made(transport)
        return protocol, transport

    async def settle(self) -> None:
        """Runs the event loop until the app has no request left to finish."""
        for _ in range(200):
            await asyncio.sleep(0)
            if not self._state.tasks:
                return


@dataclass
class Recorder:
    """An app that reads each request and answers 200."""

    seen: list[SeenRequest] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, _: Send) -> None:
        target = scope["raw_path"] + (b"?" if scope["query_string"] else b"")
        seen = SeenRequest(scope["method"], target + scope["query_string"], list(scope["headers"]))
        self.seen.append(seen)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body, more = body + message["body"], message["more_body"]
        seen.body = None if more else body
        cycle = find_cycle(scope)
        assert cycle is not None
        text = (cycle.fault or "cut off").encode() if more else b"ok"
        cycle.respond(400 if more else 200, [(b"content-length", b"%d" % len(text))], text)


async def serve_bytes(chunks: Iterable[bytes]) -> tuple[list[SeenRequest], bytes, bool]:
    """The requests that the app received, all response bytes, and whether the server closed."""
    recorder = Recorder()
    server = MemoryServer(recorder)
    protocol, transport = server.connect()
    for chunk in chunks:
        protocol.data_received(chunk)
        await server.settle()
    closed = transport.is_closed
    protocol.connection_lost(None)
    await server.settle()
    return recorder.seen, bytes(transport.written), closed
