"""The readers outside of Leadlog, each a process of its own: a stream consumer and a sink."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from service.settings import Settings
from tests.bench.pipeline import probe
from tests.bench.pipeline.plan import ENDPOINTS, Variant
from tests.bench.pipeline.probe import Latency
from tests.bench.pipeline.stage import Running
from tests.bench.programs import LoadError
from tests.bench.webhooks.stage import Process, find_percentile, start

EVENTS = ["lead.created"]


@dataclass(frozen=True)
class Seen:
    """What has arrived since the last look."""

    entries: int
    deliveries: int
    latencies: dict[str, Latency]


@dataclass
class Observers:
    consumer: Process
    sink: Process | None
    _delays: dict[str, list[float]] = field(default_factory=lambda: {"stream": [], "webhook": []})
    _counts: dict[str, int] = field(default_factory=lambda: {"stream": 0, "webhook": 0})

    async def count(self) -> int:
        """The number of entries and deliveries since the last `take`."""
        await self._look()
        return sum(self._counts.values())

    async def take(self) -> Seen:
        await self._look()
        latencies = {name: measure_latency(each) for name, each in self._delays.items() if each}
        counts = self._counts
        self._delays, self._counts = {"stream": [], "webhook": []}, {"stream": 0, "webhook": 0}
        return Seen(counts["stream"], counts["webhook"], latencies)

    async def _look(self) -> None:
        for name, process in (("stream", self.consumer), ("webhook", self.sink)):
            if process is not None:
                told = await process.ask()
                self._counts[name] += told["count"]
                self._delays[name] += told["delays"]


def measure_latency(delays_ms: Sequence[float]) -> Latency:
    return Latency(find_percentile(delays_ms, 50), find_percentile(delays_ms, 99))


@asynccontextmanager
async def watch(running: Running, variant: Variant) -> AsyncIterator[Observers]:
    """Starts the stream consumer and, in variant `endpoints`, a sink with ENDPOINTS endpoints."""
    stage = running.side.stage
    settings = Settings(database_url=running.api.database.dsn, redis_url=stage.valkey.url)
    async with AsyncExitStack() as stack:
        generation = str(await probe.read_generation(running))
        socket = stage.valkey.url.removeprefix("unix://")
        consumer = await stack.enter_async_context(
            start(settings, "-m", "tests.bench.pipeline.consumer", socket, generation)
        )
        if await consumer.read_line() != "ready":
            raise LoadError("The stream consumer did not start: its error is above.")
        sink = None
        if variant == "endpoints":
            hosts = [f"127.0.0.{n + 1}" for n in range(ENDPOINTS)]
            sink = await stack.enter_async_context(
                start(settings, "-m", "tests.bench.webhooks.sink", *hosts)
            )
            port = await sink.read_line()
            await make_endpoints(running, [f"http://{host}:{port}/" for host in hosts])
        yield Observers(consumer, sink)


async def make_endpoints(running: Running, urls: Sequence[str]) -> None:
    server = running.api.server
    headers = {"Authorization": f"Bearer {server.key}"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        for url in urls:
            body = {"url": url, "events": EVENTS}
            async with session.post("/v1/webhooks", json=body) as response:
                if not response.ok:
                    raise LoadError(f"POST /v1/webhooks is answered with {response.status}.")
