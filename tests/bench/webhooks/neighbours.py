"""How a hostile receiver delays the deliveries to others: `make bench-neighbours`.

Ten tenants share the events. Nine have healthy endpoints; the endpoint of the tenth is hostile, in
another way in each line. The first line is measured without a hostile endpoint.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated

import asyncpg
import typer
from ulid import ULID

from service.settings import Settings
from tests.bench.webhooks.measure import create_leads
from tests.bench.webhooks.stage import (
    Process,
    find_percentile,
    make_endpoint,
    make_tenant,
    open_stage,
    start,
)

HEALTHY = 9
START_S = 3.0
POLL_S, PATIENCE_S = 0.05, 30.0


@asynccontextmanager
async def run_worker(settings: Settings) -> AsyncIterator[None]:
    """Runs `leadlog work` and discards its output."""
    async with start(settings, "-m", "service.cli.main", "work") as worker:
        reader = asyncio.create_task(_read_all(worker))
        await asyncio.sleep(START_S)
        yield
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader


async def _read_all(worker: Process) -> None:
    while await worker.read_line():
        pass


async def measure_beside(
    conn: asyncpg.Connection,
    settings: Settings,
    sink: Process,
    port: str,
    hostile_urls: Sequence[str],
    rate: float,
    seconds: float,
    healthy: int = HEALTHY,
) -> list[float]:
    """Milliseconds from createdAt to the 2xx of healthy endpoints, beside hostile endpoints."""
    tenants = [await make_tenant(conn, f"beside {ULID()}") for _ in range(healthy + 1)]
    for n, tenant_id in enumerate(tenants[:-1]):
        await make_endpoint(conn, settings, tenant_id, f"http://127.0.0.{n + 1}:{port}/")
    for url in hostile_urls:
        await make_endpoint(conn, settings, tenants[-1], url)
    await sink.ask()
    sent = await create_leads(settings, conn, tenants, seconds, rate)
    expected = sent * healthy // (healthy + 1)
    delays: list[float] = []
    for _ in range(int(PATIENCE_S / POLL_S)):
        delays += (await sink.ask())["delays"]
        if len(delays) >= expected:
            break
        await asyncio.sleep(POLL_S)
    await conn.execute("DELETE FROM endpoint WHERE tenant_id = ANY ($1)", tenants)
    if len(delays) < expected:
        raise RuntimeError(f"{expected} expected, {len(delays)} arrived")
    return delays


async def run(rate: float, seconds: float) -> None:
    async with (
        open_stage() as stage,
        start(stage.settings, "-m", "tests.bench.webhooks.sink") as sink,
        start(stage.settings, "-m", "tests.bench.webhooks.misbehaving_receivers") as receivers,
        run_worker(stage.settings),
    ):
        port, hostile_urls = await sink.read_line(), json.loads(await receivers.read_line())
        typer.echo(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {rate:g} events/s")
        row = "{:<60}{:>8}{:>8}{:>8}"
        typer.echo(row.format("the tenth endpoint", "p50 ms", "p95", "p99"))
        for name, urls in [
            ("(there is none)", []), *((name, [url]) for name, url in hostile_urls.items()),
            ("(there is none)", []), ("all of these at once", list(hostile_urls.values())),
        ]:  # fmt: skip
            found = await measure_beside(
                stage.conn, stage.settings, sink, port, urls, rate, seconds
            )
            figures = (f"{find_percentile(found, percent):.0f}" for percent in (50, 95, 99))
            typer.echo(row.format(name, *figures))


def main(
    rate: Annotated[float, typer.Option(help="Events a second, of all tenants.")] = 300,
    seconds: Annotated[float, typer.Option(help="How long each is tried.")] = 5.0,
) -> None:
    """Print the delays of the healthy endpoints beside each hostile endpoint."""
    asyncio.run(run(rate, seconds))


if __name__ == "__main__":
    typer.run(main)
