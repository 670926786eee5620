"""No event or delivery is lost if the clock of the process or database is wrong by a year."""

import dataclasses
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio
from msgspec.structs import replace
from prometheus_client import REGISTRY

import sql
from service.database.clock import Clock
from service.database.connect import Pool, create_pool
from service.events.monitoring import find_worker_faults, read_worker_health
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.harness.cluster import Cluster
from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness
from tests.harness.factories import make_tenant
from tests.harness.partitions import add_partition, exists
from tests.harness.running_service import wait_until
from tests.harness.worker_harness import make_worker_harness
from tests.harness.worker_process import worker_process
from tests.loopback.receiver import run_receiver
from workers.delivery.maintenance import reap_leases
from workers.dispatcher import Dispatcher
from workers.janitor import Janitor
from workers.leases import LeaseLostError, Leases

YEAR_S = 365 * 86400.0
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
"""The library of Debian's package libfaketime."""


@pytest.fixture
async def delivery_harness(
    cluster: Cluster, settings: Settings, redis_client: redis.asyncio.Redis
) -> AsyncIterator[DeliveryHarness]:
    """A harness with a separate database, since tests drop partitions."""
    async with cluster.make_database() as dsn:
        settings = replace(settings, database_url=dsn)
        async with await create_pool(settings, "tests") as pool, run_receiver() as receiver:
            harness = await make_worker_harness(pool, settings, redis_client)
            yield await open_delivery_harness(harness, receiver.url)


async def drop_partitions(pool: Pool, *tables: str) -> None:
    """Drops all partitions. They are also missing after the database's clock moved by a year."""
    for table in tables:
        for row in await pool.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
            "WHERE inhparent = $1::text::regclass",
            table,
        ):
            await pool.execute(f"DROP TABLE {row['name']}")


async def find_attempts(pool: Pool) -> list[Any]:
    return await pool.fetch("SELECT at, abs(extract(epoch FROM now() - at)) AS age_s FROM attempt")


async def test_attempts_are_stored_when_their_partition_is_missing(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.add(("a", 1), ("b", 1))
    await drop_partitions(delivery_harness.pool, "attempt", "delivery_final")
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    assert len(await find_attempts(delivery_harness.pool)) == 2
    assert [final["outcome"] for final in await delivery_harness.finals()] == ["delivered"] * 2


@pytest.mark.parametrize("offset_s", [YEAR_S, -YEAR_S])
async def test_attempts_and_signatures_have_the_time_of_the_database(
    delivery_harness: DeliveryHarness, offset_s: float
) -> None:
    clock = Clock(lambda: time.time() + offset_s)
    async with delivery_harness.pool.acquire() as conn:
        await clock.compare(conn)
    assert clock.skew_s == pytest.approx(-offset_s, abs=30)
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 30
    shown = REGISTRY.get_sample_value("leadlog_clock_skew_seconds")
    assert shown == pytest.approx(-offset_s, abs=30)

    async with run_receiver() as receiver:
        await delivery_harness.pool.execute("UPDATE endpoint SET url = $1", receiver.url)
        await delivery_harness.add(("a", 1))
        wrong = dataclasses.replace(delivery_harness.context, clock=clock)
        dispatcher = Dispatcher(wrong, "dispatcher/0")
        await delivery_harness.drain(dispatcher)
        wrong.stopping.set()
        await dispatcher.close()
        signed_at = int(receiver.received[0].headers["webhook-timestamp"])
    assert abs(signed_at - time.time()) < 60
    [attempt] = await find_attempts(delivery_harness.pool)
    assert attempt["age_s"] < 60


async def test_a_signature_has_the_right_time_at_once_after_a_clock_was_set(
    delivery_harness: DeliveryHarness,
) -> None:
    offsets_s = [0.0]
    clock = Clock(lambda: time.time() + offsets_s[-1])
    async with run_receiver() as receiver:
        await delivery_harness.pool.execute("UPDATE endpoint SET url = $1", receiver.url)
        dispatcher = Dispatcher(
            dataclasses.replace(delivery_harness.context, clock=clock), "dispatcher/0"
        )
        for version, offset_s in enumerate([0.0, YEAR_S, -YEAR_S, 0.0], 1):
            offsets_s.append(offset_s)
            await delivery_harness.add(("a", version))
            await delivery_harness.drain(dispatcher)
        await close(dispatcher)
    signed_at = [int(received.headers["webhook-timestamp"]) for received in receiver.received]
    assert len(signed_at) == 4
    assert max(abs(at - time.time()) for at in signed_at) < 120


@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed")
async def test_a_process_with_its_clock_a_year_ahead_works_and_reports_the_skew(
    delivery_harness: DeliveryHarness, tmp_path: Path
) -> None:
    async with run_receiver() as receiver:
        await delivery_harness.pool.execute("UPDATE endpoint SET url = $1", receiver.url)
        await delivery_harness.add(("a", 1), ("a", 2))
        environ = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME": "+365d",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "WEBHOOK_ALLOW_PRIVATE": "true",
        }

        async def is_done() -> bool:
            return len(await find_attempts(delivery_harness.pool)) == 2

        async with worker_process(delivery_harness.context.settings, tmp_path / "log", **environ):
            await wait_until(is_done, 60)
    assert [received.id for received in receiver.received] == ["evt_a_1", "evt_a_2"]
    assert max(attempt["age_s"] for attempt in await find_attempts(delivery_harness.pool)) < 120
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    [skew_s, *_] = [
        line["database_is_ahead_s"] for line in lines if line["event"] == "clock.skewed"
    ]
    assert skew_s == pytest.approx(-YEAR_S, abs=120)


@pytest.mark.parametrize("offset_s", [YEAR_S, -YEAR_S])
async def test_nothing_expires_while_the_clocks_disagree(
    delivery_harness: DeliveryHarness, offset_s: float
) -> None:
    name = await add_partition(delivery_harness.pool, "attempt", 60)
    context = delivery_harness.context
    clock = Clock(lambda: time.time() + offset_s)
    wrong = dataclasses.replace(context, clock=clock)
    await Janitor(wrong).once()
    assert await exists(delivery_harness.pool, name)
    await Janitor(context).once()
    assert not await exists(delivery_harness.pool, name)


async def test_the_api_makes_missing_partitions_and_responds_503_until_then(
    delivery_harness: DeliveryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.database.clock.COMPARE_EVERY_S", 0.5)
    async with (
        serve_api(delivery_harness.context.settings) as url,
        aiohttp.ClientSession() as session,
    ):
        async with delivery_harness.pool.acquire() as conn:
            tenant = await make_tenant(conn)
        api = Api(url, session, tenant, tenant.key())
        statuses = []

        async def is_captured() -> bool:
            statuses.append((await api.post("/v1/leads", {"email": "a@example.com"})).status)
            return statuses[-1] == 201

        await drop_partitions(delivery_harness.pool, "outbox")
        await wait_until(is_captured, 30)
    assert set(statuses) <= {201, 503}


async def test_leases_made_while_the_clock_was_a_year_ahead_delay_nothing(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.pool.execute(
        "INSERT INTO lease SELECT name, 'dead', now() + interval '1 year' "
        "FROM (SELECT name FROM reader UNION ALL SELECT 'ticker') AS job"
    )
    await delivery_harness.add(("a", 1))
    await delivery_harness.pool.execute(
        "UPDATE delivery SET token = 1, leased_until = now() + interval '1 year', attempts = 1"
    )
    async with delivery_harness.pool.acquire() as conn:
        trouble = find_worker_faults(await read_worker_health(conn))
    assert trouble["workers"].startswith("no worker process has been seen yet")
    assert await delivery_harness.pool.fetch(sql.lease_list_live) == []
    await Leases(delivery_harness.pool, "one").acquire("ticker")
    with pytest.raises(LeaseLostError):
        await Leases(delivery_harness.pool, "another").acquire("ticker")
    await reap_leases(delivery_harness.pool)
    [row] = await delivery_harness.rows()
    assert (row["token"], row["leased_until"]) == (None, None)
