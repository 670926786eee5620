"""A receiver as cheap as can be, in a process of its own: counts, notes when it answered, may hang.

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
    """What has arrived: Unix time when it was answered, and of the event's createdAt as text."""

    def __init__(self) -> None:
        self.connections = 0
        self.answers: list[tuple[float, str]] = []

    def take(self) -> str:
        """Delays from createdAt to the answer in ms; an event without one has none."""
        answers, self.answers = self.answers, []
        delays = [
            round((at - datetime.fromisoformat(created).timestamp()) * 1000, 1)
            for at, created in answers
            if created
        ]
        connections, self.connections = self.connections, 0
        return json.dumps({"count": len(answers), "connections": connections, "delays": delays})


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
            self._write(_ANSWER)
            self._tally.answers.append((time.time(), text))


async def main() -> None:
    tally = Tally()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(tally), "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(tally.take(), flush=True)  # noqa: T201


if __name__ == "__main__":
    uvloop.run(main())
