"""Writers that do all that makes order hard, our reader, and two wrong ones that must fail.

The wrong readers are the popular ones: "id greater than the last", and the watermark at the oldest
running transaction. If they come through, the writers were too tame to prove anything of ours.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import redis.asyncio
from msgspec.structs import replace

from service.db import Connection, Pool, create_pool
from service.ids import make_id
from service.log import Event
from service.settings import Settings
from service.wakeups import Wakeups
from tests.cluster import Cluster
from tests.factories import make_lead
from workers.reader import Reader
from workers.slices import Runner, SliceFactory, Workshop
from workers.ticker import Ticker

WRITERS = 14
LEADS = 24
WRITE_S = 6.5
LONG_S = 4.0
THINK_S = 0.03
TENANT = 1
LAG_LIMIT_S = 0.25
TOOTHLESS = "the torture has lost its teeth"


@dataclass
class Ordeal:
    """What was written, and what each reader saw, in its order."""

    shop: Workshop
    leads: list[str]
    committed_at: dict[int, float] = field(default_factory=dict)
    """By event id, when the writer's commit had returned."""
    long_open: tuple[float, float] = (0, 0)
    long_ids: set[int] = field(default_factory=set)
    stored: dict[int, tuple[str, int]] = field(default_factory=dict)  # lead and version
    ours: list[int] = field(default_factory=list)
    seen_at: dict[int, float] = field(default_factory=dict)
    naive: list[int] = field(default_factory=list)
    watermark: list[int] = field(default_factory=list)
    watermark_seen_at: dict[int, float] = field(default_factory=dict)

    def count_disorder(self, seen: Iterable[int]) -> int:
        """How often a reader saw a lead's event after a later one of the same lead."""
        newest: defaultdict[str, int] = defaultdict(int)
        disorder = 0
        for event_id in seen:
            lead_id, version = self.stored[event_id]
            disorder += version < newest[lead_id]
            newest[lead_id] = max(newest[lead_id], version)
        return disorder

    def measure_lags(self, seen_at: dict[int, float]) -> list[float]:
        """Seconds until a reader saw what was committed while the long one was open, sorted."""
        begun, ended = self.long_open
        return sorted(
            seen_at[event_id] - at
            for event_id, at in self.committed_at.items()
            if begun < at < ended and event_id not in self.long_ids
        )


class Recorder(Reader):
    """Our reader: notes what it is given, once that is durable."""

    def __init__(self, shop: Workshop, name: str, ordeal: Ordeal) -> None:
        super().__init__(shop, name)
        self._ordeal = ordeal

    async def apply(self, conn: Connection, events: list[Event]) -> None:
        """The cursor is effect enough."""

    async def after_commit(self, events: list[Event]) -> None:
        for event in events:
            self._ordeal.ours.append(event.id)
            self._ordeal.seen_at[event.id] = time.monotonic()


@pytest.fixture(scope="module")
async def ordeal(cluster: Cluster, settings: Settings, redis_url: str) -> AsyncIterator[Ordeal]:
    """All of it, run once."""
    async with cluster.make_database() as dsn:
        settings = replace(settings, database_url=dsn)
        client = redis.asyncio.Redis.from_url(redis_url)
        async with await create_pool(settings, "torture", WRITERS + 12) as pool:
            wakeups = Wakeups(client)
            async with wakeups.running(listening=True):
                shop = Workshop(settings, pool, client, wakeups, "torture")
                leads = [await make_lead(pool, TENANT) for _ in range(LEADS)]
                yield await run_ordeal(Ordeal(shop, leads))
        await client.aclose()


async def run_ordeal(ordeal: Ordeal) -> Ordeal:
    pool = ordeal.shop.pool
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group, running_reader(ordeal):
        group.create_task(read_by_id(pool, ordeal.naive, done))
        group.create_task(read_by_watermark(ordeal, done))
        end = time.monotonic() + WRITE_S
        writers = [write_until(ordeal, end, n) for n in range(WRITERS)]
        await asyncio.gather(*writers, hold_long_transaction(ordeal))
        for row in await pool.fetch("SELECT id, lead_id, version FROM outbox"):
            ordeal.stored[row["id"]] = (row["lead_id"], row["version"])
        async with asyncio.timeout(5):
            while len(ordeal.ours) < len(ordeal.stored):  # noqa: ASYNC110  # others fill it
                await asyncio.sleep(0.02)
        done.set()
    return ordeal


@asynccontextmanager
async def running_reader(ordeal: Ordeal) -> AsyncIterator[None]:
    """The real ticker and a real reader, run as in a worker process."""
    name = "historian/0"
    factories: dict[str, SliceFactory] = {
        "ticker": Ticker,
        name: partial(Recorder, name=name, ordeal=ordeal),
    }
    runner = Runner(ordeal.shop, factories)
    tasks = [asyncio.create_task(runner.run(name, "torture")) for name in factories]
    try:
        yield
    finally:
        await runner.stop(5)
        await asyncio.gather(*tasks)


async def write_until(ordeal: Ordeal, end: float, seed: int) -> None:
    rng = random.Random(seed)
    while time.monotonic() < end:
        await asyncio.sleep(rng.expovariate(1 / THINK_S))
        async with ordeal.shop.pool.acquire() as conn:
            await write_once(ordeal, conn, rng)


async def write_once(ordeal: Ordeal, conn: Connection, rng: random.Random) -> None:
    """One transaction, of one of many kinds."""
    transaction = conn.transaction()
    await transaction.start()
    if rng.random() < 0.5:  # as one that writes an audit row first
        await conn.fetchval("SELECT pg_current_xact_id()")
        await asyncio.sleep(rng.expovariate(1 / THINK_S))
    lead_id = rng.choice(ordeal.leads)  # one, or two transactions could deadlock
    ids = await change_lead(conn, rng, lead_id)
    if rng.random() < 0.2:
        ids += await change_in_savepoint(conn, rng, lead_id)
    if rng.random() < 0.5:
        await asyncio.sleep(rng.expovariate(1 / THINK_S))
    if rng.random() < 0.1:
        await transaction.rollback()
        return
    await transaction.commit()
    note_commit(ordeal, ids)


async def change_in_savepoint(conn: Connection, rng: random.Random, lead_id: str) -> list[int]:
    """A second change, of which half are undone."""
    savepoint = conn.transaction()
    await savepoint.start()
    ids = await change_lead(conn, rng, lead_id)
    if rng.random() < 0.5:
        await savepoint.rollback()
        return []
    await savepoint.commit()
    return ids


async def change_lead(conn: Connection, rng: random.Random, lead_id: str) -> list[int]:
    """A change of the row and its one or two events in one statement, as the API writes them."""
    rows = await conn.fetch(
        "WITH changed AS (UPDATE lead SET version = version + $2 WHERE tenant_id = $3 AND live "
        "AND id = $1 RETURNING version - $2 AS before) "
        "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, "
        "data) SELECT lead_shard($1), $3, true, $1, before + n, $4 || n, 'lead.updated', 'key_1', "
        "now_ms(), '{}' FROM changed CROSS JOIN generate_series(1, $2) AS n ORDER BY n "
        "RETURNING id",
        lead_id, rng.choice([1, 2]), TENANT, make_id("evt"),
    )  # fmt: skip
    return [row["id"] for row in rows]


def note_commit(ordeal: Ordeal, ids: list[int]) -> None:
    now = time.monotonic()
    ordeal.committed_at.update(dict.fromkeys(ids, now))
    ordeal.shop.wakeups.notify("event")


async def hold_long_transaction(ordeal: Ordeal) -> None:
    """Writes to a lead of its own, waits long, writes again, commits."""
    rng = random.Random(1)
    lead_id = await make_lead(ordeal.shop.pool, TENANT)
    await asyncio.sleep(1)
    async with ordeal.shop.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        ids = await change_lead(conn, rng, lead_id)
        begun = time.monotonic()
        await asyncio.sleep(LONG_S)
        ordeal.long_open = (begun, time.monotonic())
        ids += await change_lead(conn, rng, lead_id)
        await transaction.commit()
    ordeal.long_ids |= set(ids)
    note_commit(ordeal, ids)


async def read_by_id(pool: Pool, seen: list[int], done: asyncio.Event) -> None:
    """Wrong: passes over whoever commits after a higher id was read."""
    last = 0
    while True:
        finish = done.is_set()
        rows = await pool.fetch("SELECT id FROM outbox WHERE id > $1 ORDER BY id", last)
        seen += [row["id"] for row in rows]
        last = seen[-1] if seen else 0
        if finish:
            return
        await asyncio.sleep(0.01)


async def read_by_watermark(ordeal: Ordeal, done: asyncio.Event) -> None:
    """Wrong: transaction ids are not commit order, and the oldest transaction stalls all."""
    place = (0, 0)
    while True:
        finish = done.is_set()
        rows = await ordeal.shop.pool.fetch(
            "SELECT txid::text::bigint AS txid, id FROM outbox "
            "WHERE (txid::text::bigint, id) > ($1, $2) "
            "AND txid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY txid, id",
            *place,
        )
        for row in rows:
            ordeal.watermark.append(row["id"])
            ordeal.watermark_seen_at[row["id"]] = time.monotonic()
        place = (rows[-1]["txid"], rows[-1]["id"]) if rows else place
        if finish:
            return
        await asyncio.sleep(0.01)


async def test_our_reader_loses_nothing_and_repeats_nothing(ordeal: Ordeal) -> None:
    assert len(ordeal.stored) > 1000, TOOTHLESS
    repeated = [event_id for event_id, times in Counter(ordeal.ours).items() if times > 1]
    assert repeated == []
    assert set(ordeal.ours) == set(ordeal.stored)


async def test_our_reader_keeps_the_order_of_each_lead(ordeal: Ordeal) -> None:
    assert ordeal.count_disorder(ordeal.ours) == 0
    versions: defaultdict[str, list[int]] = defaultdict(list)
    for event_id in ordeal.ours:
        lead_id, version = ordeal.stored[event_id]
        versions[lead_id].append(version)
    for found in versions.values():
        assert found == list(range(2, len(found) + 2))  # make_lead gave them version 1


async def test_our_reader_does_not_wait_for_a_long_transaction(ordeal: Ordeal) -> None:
    lags = ordeal.measure_lags(ordeal.seen_at)
    assert len(lags) > 500, TOOTHLESS
    # Nine of ten, and half of the wait for the rest: other tests share the machine.
    assert lags[len(lags) * 9 // 10] < LAG_LIMIT_S, f"worst {lags[-1]:.3f} s"
    assert lags[-1] < LONG_S / 2


async def test_the_long_transactions_own_events_come_soon_after_its_commit(ordeal: Ordeal) -> None:
    lags = [
        ordeal.seen_at[event_id] - ordeal.committed_at[event_id] for event_id in ordeal.long_ids
    ]
    assert len(lags) >= 2, TOOTHLESS
    assert max(lags) < LONG_S / 2


async def test_a_reader_behind_a_watermark_waits_for_a_long_transaction(ordeal: Ordeal) -> None:
    lags = ordeal.measure_lags(ordeal.watermark_seen_at)
    assert lags[len(lags) // 2] > LAG_LIMIT_S, TOOTHLESS
    assert lags[-1] > LONG_S / 2, TOOTHLESS


async def test_a_reader_of_greater_ids_loses_events(ordeal: Ordeal) -> None:
    assert set(ordeal.stored) - set(ordeal.naive), TOOTHLESS


async def test_a_reader_behind_a_watermark_mixes_up_the_order(ordeal: Ordeal) -> None:
    assert set(ordeal.watermark) == set(ordeal.stored)
    assert ordeal.count_disorder(ordeal.watermark), TOOTHLESS
