"""A receiver as cheap as can be, in a process of its own: counts, notes when what came, may hang.

It trusts its sender: one request at a time, `Content-Length` as Leadlog writes it. Prints one JSON
line for each line on its standard input: what has arrived since the last one. `python -m
tests.bench.webhooks.sink` prints its port first. A path that begins with /hang gets no answer.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LENGTH, _CREATED = b"\r\nContent-Length: ", b'"createdAt":"'


class Tally:
    """What has arrived: Unix time of its arrival, and of the event's createdAt as text."""

    def __init__(self) -> None:
        self.connections = 0
        self.arrivals: list[tuple[float, str]] = []

    def take(self) -> str:
        """Delays from createdAt to arrival in ms; an event without one has none."""
        arrivals, self.arrivals = self.arrivals, []
        delays = [
            round((at - datetime.fromisoformat(created).timestamp()) * 1000, 1)
            for at, created in arrivals
            if created
        ]
        connections, self.connections = self.connections, 0
        return json.dumps({"count": len(arrivals), "connections": connections, "delays": delays})


class Sink(asyncio.Protocol):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._got = b""
        self._write: Callable[[bytes], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.WriteTransport, transport).write  # uvloop's is no subclass
        self._tally.connections += 1

    def data_received(self, data: bytes) -> None:
        got = self._got = self._got + data if self._got else data
        end = got.find(b"\r\n\r\n")
        if end < 0:
            return
        at = got.index(_LENGTH) + len(_LENGTH)
        if len(got) < end + 4 + int(got[at : got.index(b"\r", at)]):
            return
        self._got = b""
        if not got.startswith(b"POST /hang"):
            created = got.find(_CREATED, end) + len(_CREATED)
            text = got[created : created + 24].decode() if created > end else ""
            self._tally.arrivals.append((time.time(), text))
            self._write(_ANSWER)


async def main() -> None:
    tally = Tally()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(tally), "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(tally.take(), flush=True)  # noqa: T201


if __name__ == "__main__":
    uvloop.run(main())
