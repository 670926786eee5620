"""A consumer of the CRM streams, a process of its own: reads every entry as soon as it arrives.

`python -m tests.bench.pipeline.consumer SOCKET GENERATION` first prints a line when it has read the
streams to their ends. For each line on standard input it prints one line of JSON: the number of
entries since the previous line, and of each lead.created the ms from its createdAt to its arrival.
"""

import asyncio
import json
import sys
import time
from datetime import datetime
from typing import Any

import hiredis
import uvloop

SHARDS = range(8)
BLOCK_MS, COUNT = "0", "500"
_CREATED = b'"createdAt":"'


class Consumer:
    """One connection to Valkey that waits in XREAD."""

    def __init__(self, generation: int) -> None:
        keys = [f"leadlog:events:{{g{generation}s{shard}}}" for shard in SHARDS]
        self._positions = {key.encode(): b"0-0" for key in keys}
        self._parser = hiredis.Reader()
        self.count = 0
        self.arrivals: list[tuple[float, bytes]] = []

    async def open(self, socket: str) -> None:
        """Connects, and moves to the end of each stream."""
        self._reader, self._writer = await asyncio.open_unix_connection(socket)
        for key in self._positions:
            newest = await self._ask("XREVRANGE", key, "+", "-", "COUNT", "1")
            if newest:
                self._positions[key] = newest[0][0]

    async def run(self) -> None:
        while True:
            streams = (*self._positions, *self._positions.values())
            reply = await self._ask("XREAD", "COUNT", COUNT, "BLOCK", BLOCK_MS, "STREAMS", *streams)
            at = time.time()
            for key, entries in reply:
                self._positions[key] = entries[-1][0]
                self.count += len(entries)
                self.arrivals += [
                    (at, created) for _, fields in entries if (created := find_created(fields))
                ]

    async def _ask(self, *words: str | bytes) -> Any:
        self._writer.write(hiredis.pack_command(words))  # type: ignore[arg-type]  # wrong stub
        while (reply := self._parser.gets()) is False:
            self._parser.feed(await self._reader.read(2**18))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def take(self) -> str:
        """The counts and the delays since the last call."""
        arrivals, self.arrivals = self.arrivals, []
        count, self.count = self.count, 0
        delays = [
            round((at - datetime.fromisoformat(created.decode()).timestamp()) * 1000, 1)
            for at, created in arrivals
        ]
        return json.dumps({"count": count, "delays": delays})


def find_created(fields: list[bytes]) -> bytes | None:
    """The createdAt of an entry of type lead.created; None for other types."""
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    if values[b"type"] != b"lead.created":
        return None
    envelope = values[b"envelope"]
    at = envelope.find(_CREATED) + len(_CREATED)
    return envelope[at : at + 24]


async def main(socket: str, generation: str) -> None:
    consumer = Consumer(int(generation))
    await consumer.open(socket)
    loop = asyncio.get_running_loop()
    reading = asyncio.create_task(consumer.run())
    print("ready", flush=True)  # noqa: T201
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(consumer.take(), flush=True)  # noqa: T201
        if reading.done():
            reading.result()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
