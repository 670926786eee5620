"""A receiver as cheap as can be, in a process of its own: counts, notes delays, may hang.

Prints one JSON line for each line on its standard input: what has arrived since the last one.
`python -m tests.bench.webhooks.sink` prints its port first. A path that begins with /hang gets no
answer.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import httptools
import msgspec
import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Envelope(msgspec.Struct):
    created_at: str = msgspec.field(name="createdAt")


class Tally:
    """What has arrived. Delays from the event's createdAt to its arrival, in ms."""

    def __init__(self) -> None:
        self.count = 0
        self.connections = 0
        self.delays: list[float] = []

    def note(self, body: bytes) -> None:
        self.count += 1
        at = msgspec.json.decode(body, type=_Envelope).created_at
        self.delays.append((time.time() - datetime.fromisoformat(at).timestamp()) * 1000)

    def take(self) -> str:
        told = {
            "count": self.count,
            "connections": self.connections,
            "delays": [round(delay, 1) for delay in self.delays],
        }
        self.count, self.delays = 0, []
        return json.dumps(told)


class Sink(asyncio.Protocol):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._parser: Any = httptools.HttpRequestParser(self)
        self._body = bytearray()
        self._hangs = False
        self._write: Callable[[bytes], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.WriteTransport, transport).write  # uvloop's is no subclass
        self._tally.connections += 1

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._hangs = url.startswith(b"/hang")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._hangs:
            self._tally.note(bytes(self._body))
            self._write(_ANSWER)
        self._body.clear()


async def main() -> None:
    tally = Tally()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(tally), "0.0.0.0", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(tally.take(), flush=True)  # noqa: T201


if __name__ == "__main__":
    uvloop.run(main())
