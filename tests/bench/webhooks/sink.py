"""A receiver of minimal cost in a separate process: records the time of each response, may hang.

It relies on the sender: one request at a time, `Content-Length` as Leadlog writes it. `python -m
tests.bench.webhooks.sink [ADDRESS...]` prints its port first, the same at every address. For each
line on standard input it prints one line of JSON with the requests since the previous line. A path
that begins with /hang gets no response.
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
    """The requests received: Unix time of the response, and the event's createdAt as text."""

    def __init__(self) -> None:
        self.connections = 0
        self.answers: list[tuple[float, str]] = []

    def take(self) -> str:
        """The counts since the last call, and the ms from each known createdAt to the response."""
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
        self._write = cast(asyncio.WriteTransport, transport).write  # uvloop's is another class
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


async def main(first: str = "0.0.0.0", *others: str) -> None:
    tally = Tally()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(tally), first, 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    for address in others:
        await loop.create_server(lambda: Sink(tally), address, port, backlog=4096)
    print(port, flush=True)  # noqa: T201
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(tally.take(), flush=True)  # noqa: T201


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
