"""A webhook receiver on loopback that keeps the requests it receives."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Received:
    """A received request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Handler = Callable[[Received], Awaitable[web.StreamResponse]]


async def answer_ok(_: Received) -> web.StreamResponse:
    return web.Response(text="thanks")


@dataclass
class Receiver:
    """Calls `answer` for each request; tests may replace it at any time."""

    answer: Handler = answer_ok
    url: str = ""
    received: list[Received] = field(default_factory=list)
    _arrival: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.path_qs, headers, await request.read())
        self.received.append(received)
        self._arrival.set()
        return await self.answer(received)

    async def wait_for(self, count: int, timeout_s: float = 10.0) -> list[Received]:
        """The first `count` requests, once they have arrived."""
        async with asyncio.timeout(timeout_s):
            while len(self.received) < count:
                self._arrival.clear()
                await self._arrival.wait()
        return self.received[:count]


@asynccontextmanager
async def run_receiver(
    answer: Handler = answer_ok, listener: socket.socket | None = None
) -> AsyncIterator[Receiver]:
    """Runs a receiver on a free port, or on the socket `listener`."""
    receiver = Receiver(answer)
    app = web.Application(client_max_size=1024**3)
    app.router.add_route("*", "/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    if listener is None:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    else:
        await web.SockSite(runner, listener).start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
