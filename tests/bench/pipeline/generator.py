"""The load generator, a process of its own: `python -m tests.bench.pipeline.generator`.

Its parameters come in the environment, as those of load.lua do, and it prints the same line. A
paced load sends request i at i ÷ rate, whatever the responses take (an open loop), and its
latencies count from that time. A closed load sends the next request once it has the response.
"""

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncIterator

import msgspec
import uvloop

from tests.bench.load.wrk import MARK, WrkResult
from tests.bench.pipeline.client import Client, make_request

_BODY = (
    '{"email":"%s","name":"James Rodriguez","company":"TechStart",'
    '"title":"CTO","phone":"+1-555-0198","source":"form","tags":["inbound","startup"],'
    '"customFields":{"industry":"FinTech","teamSize":"10-25","budget":"$5k-$10k/mo"}}'
)
CREATE, PATCH = 0.60, 0.25
"""The shares of creates and patches of a mix; the rest deletes a lead and creates it again."""
FAILED = 400


class Generator:
    """The requests of one run, and what became of them."""

    def __init__(self, run: str, key: str, *, mix: bool) -> None:
        self._run, self._key, self._mix = run, key, mix
        self._numbers = itertools.count()
        self._random = random.Random(run)
        self._known: list[tuple[str, str]] = []
        self.latencies_us: list[float] = []
        self.failures = 0

    async def step(self, client: Client, since: float) -> None:
        """Makes one change; `since` is the time from which its latency counts."""
        chance = self._random.random() if self._mix and self._known else 0.0
        if chance < CREATE:
            await self._create(
                client, f"james.{self._run}.{next(self._numbers)}@acme-corp.com", since
            )
            return
        at = self._random.randrange(len(self._known))  # nobody else changes this lead meanwhile
        self._known[at], self._known[-1] = self._known[-1], self._known[at]
        lead_id, email = self._known.pop()
        if chance < CREATE + PATCH:
            title = f'{{"title":"Director {next(self._numbers)}"}}'.encode()
            await self._ask(client, "PATCH", f"/v1/leads/{lead_id}", since, title)
            self._known.append((lead_id, email))
        else:
            await self._ask(client, "DELETE", f"/v1/leads/{lead_id}", since)
            await self._create(client, email, time.perf_counter())

    async def _create(self, client: Client, email: str, since: float) -> None:
        body = await self._ask(client, "POST", "/v1/leads", since, (_BODY % email).encode())
        if self._mix and body:
            self._known.append((msgspec.json.decode(body)["id"], email))

    async def _ask(
        self, client: Client, method: str, path: str, since: float, body: bytes = b""
    ) -> bytes:
        """The body of the response; empty if the request failed."""
        repeat = f"{self._run}-{next(self._numbers)}"
        status, answer = await client.ask(make_request(method, path, self._key, repeat, body))
        self.latencies_us.append((time.perf_counter() - since) * 1e6)
        if status >= FAILED:
            self.failures += 1
            return b""
        return answer


async def run_paced(made: Generator, clients: list[Client], rate: float, seconds: float) -> None:
    begun = time.perf_counter()
    due: asyncio.Queue[float | None] = asyncio.Queue()

    async def work(client: Client) -> None:
        while (at := await due.get()) is not None:
            await made.step(client, at)

    tasks = [asyncio.create_task(work(client)) for client in clients]
    async for at in tick(begun, rate, seconds):
        due.put_nowait(at)
    for _ in clients:
        due.put_nowait(None)
    await asyncio.gather(*tasks)


async def tick(begun: float, rate: float, seconds: float) -> AsyncIterator[float]:
    """The times of the requests, each once it has come."""
    for number in range(round(rate * seconds)):
        at = begun + number / rate
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        yield at


async def run_closed(made: Generator, clients: list[Client], seconds: float) -> None:
    end = time.perf_counter() + seconds

    async def work(client: Client) -> None:
        while (now := time.perf_counter()) < end:
            await made.step(client, now)

    await asyncio.gather(*(work(client) for client in clients))


async def main() -> None:
    environ = os.environ
    host, port = environ["LOAD_URL"].removeprefix("http://").split(":")
    rate, seconds = float(environ["LOAD_RATE"]), float(environ["LOAD_SECONDS"])
    mix = environ["LOAD_KIND"] == "mix"
    made = Generator(environ["LOAD_RUN"], environ["LOAD_KEY"], mix=mix)
    clients = [Client(host, int(port)) for _ in range(int(environ["LOAD_CONNECTIONS"]))]
    for client in clients:
        await client.open()
    begun = time.perf_counter()
    if rate:
        await run_paced(made, clients, rate, seconds)
    else:
        await run_closed(made, clients, seconds)
    for client in clients:
        client.close()
    result = summarize(made, time.perf_counter() - begun)
    print(MARK + msgspec.json.encode(result).decode(), flush=True)  # noqa: T201


def summarize(made: Generator, seconds: float) -> WrkResult:
    ordered = sorted(made.latencies_us) or [0.0]
    p50, p90, p99 = (
        int(ordered[min(int(len(ordered) * share), len(ordered) - 1)]) for share in (0.5, 0.9, 0.99)
    )
    return WrkResult(
        len(made.latencies_us), int(seconds * 1e6), made.failures, p50, p90, p99, int(ordered[-1])
    )


if __name__ == "__main__":
    uvloop.run(main())
