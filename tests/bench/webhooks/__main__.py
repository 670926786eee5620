"""Measures webhook delivery: `make bench-webhooks`, or `python -m tests.bench.webhooks --help`.

Everything runs on this machine: PostgreSQL (durable), Valkey, one dispatcher or a whole worker, and
a receiver. Each figure is the median of the runs, with their range.
"""

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from ulid import ULID

import sql
from service.datafolder import prepare_folder
from service.servers import Postgres, Valkey
from service.settings import Settings
from sql.migrate import migrate
from tests.bench.webhooks.stage import (
    clear,
    describe,
    fill_deliveries,
    find_percentile,
    make_endpoint,
    make_tenant,
    start,
)

ENDPOINTS = 300
POLL_S = 0.05
RATE, BURST_S = 500, 0.02


@asynccontextmanager
async def open_stage() -> AsyncIterator[tuple[Settings, asyncpg.Connection]]:
    """Servers of our own in a folder that goes away."""
    folder = prepare_folder(Path(tempfile.mkdtemp(prefix="leadlog-bench-")))
    try:
        async with Postgres(folder) as postgres, Valkey(folder) as valkey:
            await migrate(postgres.dsn)
            conn = await asyncpg.connect(postgres.dsn)
            settings = Settings(
                database_url=postgres.dsn, redis_url=valkey.url, secret_key="A" * 43 + "=",
                webhook_allow_private=True,
            )  # fmt: skip
            yield settings, conn
            await conn.close()
    finally:
        shutil.rmtree(folder)


async def measure_drain(
    settings: Settings, conn: asyncpg.Connection, count: int
) -> tuple[float, float]:
    """Deliveries per second of one dispatcher, and its memory in MB at the end."""
    async with start(settings, "-m", "tests.bench.webhooks.sink") as sink:
        port = await sink.read_line()
        await clear(conn)
        tenant_id = await make_tenant(conn, f"drain {ULID()}")
        hosts = [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(ENDPOINTS)]
        ids = [
            await make_endpoint(conn, settings, tenant_id, f"http://{host}:{port}/")
            for host in hosts
        ]
        await fill_deliveries(conn, tenant_id, ids, count)
        async with start(settings, "-m", "tests.bench.webhooks.sender") as sender:
            await sender.read_line()
            begun = time.perf_counter()
            while await conn.fetchval("SELECT EXISTS (SELECT FROM delivery)"):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            seconds = time.perf_counter() - begun
            memory = sender.read_rss_mb()
        got = (await sink.ask())["count"]
        if got != count:
            raise RuntimeError(f"{count} deliveries were settled, {got} arrived")
    return count / seconds, memory


async def measure_delay(
    settings: Settings, conn: asyncpg.Connection, seconds: float, hung: int
) -> list[float]:
    """Milliseconds from createdAt to arrival at healthy endpoints, at RATE events/s in all.

    Ten tenants share the events; the endpoints of `hung` of them never answer.
    """
    async with start(settings, "-m", "tests.bench.webhooks.sink") as sink:
        port = await sink.read_line()
        await clear(conn)
        tenants = [await make_tenant(conn, f"delay {ULID()}") for _ in range(10)]
        for n, tenant_id in enumerate(tenants):
            path = "hang" if n < hung else ""
            await make_endpoint(conn, settings, tenant_id, f"http://127.0.0.{n + 1}:{port}/{path}")
        async with start(settings, "-m", "service.cli", "work"):
            await asyncio.sleep(3)
            await sink.ask()
            sent = await write_leads(conn, tenants, seconds)
            expected = sent * (10 - hung) // 10
            delays: list[float] = []
            for _ in range(200):
                delays += (await sink.ask())["delays"]
                if len(delays) >= expected:
                    break
                await asyncio.sleep(POLL_S)
            if len(delays) < expected:
                raise RuntimeError(f"{expected} expected, {len(delays)} arrived")
    return delays


async def write_leads(
    conn: asyncpg.Connection, tenants: list[int], seconds: float, rate: float = RATE
) -> int:
    """`rate` leads a second, in small batches as the API writes them; how many."""
    begun, sent = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < seconds:
        rows = []
        while sent < elapsed * rate or sent % len(tenants):
            number, email = ULID(), f"{ULID()}@example.com".lower()
            rows.append({
                "tenant_id": tenants[sent % len(tenants)], "live": True, "id": f"lead_{number}",
                "email": email, "email_key": email, "status": "new", "source": "api", "tags": [],
                "custom_fields": {}, "event_id": f"evt_{ULID()}", "actor": "bench",
            })  # fmt: skip
            sent += 1
        if rows:
            await conn.fetch(sql.lead_insert_many, json.dumps(rows))
        await asyncio.sleep(BURST_S)
    return sent


async def measure_claim(settings: Settings, conn: asyncpg.Connection, count: int) -> float:
    """Milliseconds of finding the due lanes and claiming 400 of `count` pending deliveries."""
    await clear(conn)
    tenant_id = await make_tenant(conn, f"claim {ULID()}")
    ids = [await make_endpoint(conn, settings, tenant_id, "http://127.0.0.1:9/") for _ in range(50)]
    await fill_deliveries(conn, tenant_id, ids, count)
    times = []
    for _ in range(15):
        transaction = conn.transaction()
        await transaction.start()
        begun = time.perf_counter()
        await conn.fetch(sql.lane_list_due, 0, 1, 1000)
        await conn.fetch(sql.delivery_claim_many, ids, [8] * 50, 400, 30.0, 15000, True)
        times.append((time.perf_counter() - begun) * 1000)
        await transaction.rollback()
    return find_percentile(times, 50)


async def run(count: int, pending: int, seconds: float, runs: int) -> None:
    async with open_stage() as (settings, conn):
        typer.echo(
            f"{os.cpu_count()} CPUs; PostgreSQL {conn.get_server_version().major}; {runs} runs"
        )
        drains = [await measure_drain(settings, conn, count) for _ in range(runs)]
        typer.echo("drain, 300 endpoints: " + describe([rate for rate, _ in drains], "per second"))
        typer.echo("memory of a dispatcher: " + describe([mb for _, mb in drains], "MB"))
        for hung in (0, 1):
            found = [await measure_delay(settings, conn, seconds, hung) for _ in range(runs)]
            for percent in (50, 95, 99):
                samples = [find_percentile(delays, percent) for delays in found]
                title = f"{RATE} events/s, {hung} of 10 endpoints hung, p{percent}: "
                typer.echo(title + describe(samples, "ms"))
        few = [await measure_claim(settings, conn, 10_000) for _ in range(runs)]
        many = [await measure_claim(settings, conn, pending) for _ in range(runs)]
        typer.echo("claim of 400 among 10,000: " + describe(few, "ms", 1))
        typer.echo(f"claim of 400 among {pending:,}: " + describe(many, "ms", 1))


def main(
    count: Annotated[int, typer.Option(help="Deliveries to drain.")] = 30_000,
    pending: Annotated[int, typer.Option(help="Deliveries pending for the claim.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(help="How long events are written.")] = 15.0,
    runs: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Prints the figures."""
    asyncio.run(run(count - count % ENDPOINTS, pending, seconds, runs))


if __name__ == "__main__":
    typer.run(main)
