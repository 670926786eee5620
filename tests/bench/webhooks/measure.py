"""The measurements. Each empties the tables first."""

import asyncio
import json
import time
from dataclasses import dataclass, field

import asyncpg
from redis.asyncio import Redis
from ulid import ULID

import sql
from service.events.wake_ups import Wakeups
from service.settings import Settings
from tests.bench.webhooks.stage import (
    Process,
    Stage,
    clear,
    fill_deliveries,
    find_percentile,
    make_endpoint,
    make_tenant,
    start,
)
from tests.bench.webhooks.usage import Usage

ENDPOINTS = 300
TENANTS = 10
POLL_S = 0.05
WARM_S = 3.0
RATE, BURST_S = 500, 0.01
PATIENCE_S = 20.0


@dataclass
class DrainResult:
    """The rate of one dispatcher, and each process's processor time per delivery."""

    per_second: float
    peak_mb: float
    connections: int
    cost_us: dict[str, float] = field(default_factory=dict)


async def measure_drain(stage: Stage, count: int) -> DrainResult:
    """One dispatcher process sends `count` pending deliveries to ENDPOINTS addresses."""
    settings, conn = stage.settings, stage.conn
    async with start(settings, "-m", "tests.bench.webhooks.sink") as sink:
        port = await sink.read_line()
        await fill_endpoints(stage, port, count)
        async with start(settings, "-m", "tests.bench.webhooks.sender") as sender:
            usage = Usage(dispatcher=sender.pid, PostgreSQL=stage.postgres_pid, receiver=sink.pid)
            await sender.read_line()
            begun = time.perf_counter()
            while await conn.fetchval("SELECT EXISTS (SELECT FROM delivery)"):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            seconds = time.perf_counter() - begun
            peak_mb = sender.read_peak_mb()
            used = usage.stop()
        told = await sink.ask()
        if told["count"] != count:
            raise RuntimeError(f"{count} deliveries were settled, {told['count']} arrived")
    cost = {name: cpu_s / count * 1e6 for name, cpu_s in used.items()}
    return DrainResult(count / seconds, peak_mb, told["connections"], cost)


async def fill_endpoints(stage: Stage, port: str, count: int) -> None:
    """Inserts `count` pending deliveries to ENDPOINTS addresses of the receiver at `port`."""
    conn = stage.conn
    await clear(conn)
    tenant_id = await make_tenant(conn, f"drain {ULID()}")
    hosts = [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(ENDPOINTS)]
    ids = [
        await make_endpoint(conn, stage.settings, tenant_id, f"http://{host}:{port}/")
        for host in hosts
    ]
    await fill_deliveries(conn, tenant_id, ids, count)


async def measure_peak(stage: Stage, pending: int, count: int) -> float:
    """The peak memory in MB of a dispatcher that sends the first `count` of `pending`."""
    async with start(stage.settings, "-m", "tests.bench.webhooks.sink") as sink:
        await fill_endpoints(stage, await sink.read_line(), pending)
        async with start(stage.settings, "-m", "tests.bench.webhooks.sender") as sender:
            await sender.read_line()
            arrived = 0
            while arrived < count:
                await asyncio.sleep(POLL_S)
                arrived += (await sink.ask())["count"]
            return sender.read_peak_mb()


@dataclass
class Delay:
    """Milliseconds from createdAt to the 2xx response, and the processors used by each process."""

    delays_ms: list[float]
    peak_mb: float
    processors: dict[str, float] = field(default_factory=dict)


async def measure_delay(stage: Stage, seconds: float, hung: int) -> Delay:
    """RATE leads/s are created in TENANTS tenants; the endpoints of `hung` of them never respond.

    A whole worker runs, so each lead is scored too, which is a second event.
    """
    settings, conn = stage.settings, stage.conn
    async with start(settings, "-m", "tests.bench.webhooks.sink") as sink:
        port = await sink.read_line()
        await clear(conn)
        tenants = [await make_tenant(conn, f"delay {ULID()}") for _ in range(TENANTS)]
        for n, tenant_id in enumerate(tenants):
            path = "hang" if n < hung else ""
            await make_endpoint(conn, settings, tenant_id, f"http://127.0.0.{n + 1}:{port}/{path}")
        async with start(settings, "-m", "service.cli.main", "work") as worker:
            share = (TENANTS - hung) / TENANTS
            await _await_arrivals(sink, share * await create_leads(settings, conn, tenants, WARM_S))
            usage = Usage(
                worker=worker.pid, PostgreSQL=stage.postgres_pid, Valkey=stage.valkey_pid,
                receiver=sink.pid,
            )  # fmt: skip
            begun = time.perf_counter()
            sent = await create_leads(settings, conn, tenants, seconds)
            elapsed = time.perf_counter() - begun
            used = usage.stop()
            delays = await _await_arrivals(sink, share * sent)
            peak_mb = worker.read_peak_mb()
    return Delay(delays, peak_mb, {name: cpu_s / elapsed for name, cpu_s in used.items()})


async def _await_arrivals(sink: Process, count: float) -> list[float]:
    """The delays of the next `count` deliveries, once they have arrived."""
    delays: list[float] = []
    end = time.perf_counter() + PATIENCE_S
    while len(delays) < count:
        if time.perf_counter() > end:
            raise RuntimeError(f"{count:.0f} expected, {len(delays)} arrived")
        await asyncio.sleep(POLL_S)
        delays += (await sink.ask())["delays"]
    return delays


async def create_leads(
    settings: Settings, conn: asyncpg.Connection, tenants: list[int], seconds: float,
    rate: float = RATE,
) -> int:  # fmt: skip
    """Creates `rate` leads a second in batches, each with a wake-up; returns their number."""
    redis = Redis.from_url(settings.require_redis_url())
    wakeups = Wakeups(redis)
    begun, sent = time.perf_counter(), 0
    async with wakeups.running(listening=False):
        while (elapsed := time.perf_counter() - begun) < seconds:
            rows = []
            while sent < elapsed * rate or sent % len(tenants):
                rows.append(_make_lead(tenants[sent % len(tenants)]))
                sent += 1
            if rows:
                await conn.fetch(sql.lead_insert_many, json.dumps(rows))
                wakeups.notify("event")
            await asyncio.sleep(BURST_S)
    await redis.aclose()
    return sent


def _make_lead(tenant_id: int) -> dict[str, object]:
    email = f"{ULID()}@example.com".lower()
    return {
        "tenant_id": tenant_id, "live": True, "id": f"lead_{ULID()}", "email": email,
        "email_key": email, "status": "new", "source": "api", "tags": [], "custom_fields": {},
        "event_id": f"evt_{ULID()}", "actor": "bench",
    }  # fmt: skip


async def measure_claim(stage: Stage, count: int) -> float:
    """Milliseconds to find the due lanes and to claim 400 of `count` pending deliveries."""
    conn = stage.conn
    await clear(conn)
    tenant_id = await make_tenant(conn, f"claim {ULID()}")
    ids = [
        await make_endpoint(conn, stage.settings, tenant_id, "http://127.0.0.1:9/")
        for _ in range(50)
    ]
    await fill_deliveries(conn, tenant_id, ids, count)
    return find_percentile([await _time_claim(conn, ids) for _ in range(15)], 50)


async def _time_claim(conn: asyncpg.Connection, ids: list[str]) -> float:
    transaction = conn.transaction()
    await transaction.start()
    begun = time.perf_counter()
    await conn.fetch(sql.lane_list_due, 0, 1, 1000)
    await conn.fetch(sql.delivery_claim_many, ids, [8] * 50, 400, 30.0, 15000, 280)
    taken = (time.perf_counter() - begun) * 1000
    await transaction.rollback()
    return taken
