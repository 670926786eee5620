"""The window cache gives every reader the windows of the log, with few queries."""

import asyncio
import random

import pytest

import sql
from service.database.connect import Connection, Pool
from service.events.event_log import Cursor, Window, read_windows
from tests.harness.worker_harness import WorkerHarness
from workers import window_cache
from workers.ticker import Ticker
from workers.window_cache import WindowCache


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[Cursor]:
    """The cursors of all queries of the log."""
    asked: list[Cursor] = []

    async def read_and_record(
        conn: Connection, cursor: Cursor, limit: int, count: int
    ) -> list[Window]:
        asked.append(cursor)
        return await read_windows(conn, cursor, limit, count)

    monkeypatch.setattr(window_cache, "read_windows", read_and_record)
    return asked


@pytest.fixture
async def start(harness: WorkerHarness) -> Cursor:
    """The end of the log before the test."""
    return Cursor(await harness.pool.fetchval(sql.tick_get_newest))


async def write_window(harness: WorkerHarness, leads: int) -> None:
    for _ in range(leads):
        await harness.capture(f'{{"email": "{random.random()}@acme.com"}}')
    await Ticker(harness.context).once()


async def read_all(cache: WindowCache, cursor: Cursor) -> tuple[list[int], Cursor]:
    ids: list[int] = []
    while windows := await cache.read(cursor):
        ids += [event.id for window in windows for event in window.events]
        cursor = windows[-1].after
    return ids, cursor


async def list_ids(pool: Pool) -> list[int]:
    return [row["id"] for row in await pool.fetch("SELECT id FROM outbox ORDER BY id")]


async def test_readers_at_the_end_share_one_query(
    harness: WorkerHarness, start: Cursor, queries: list[Cursor]
) -> None:
    await write_window(harness, 3)
    cache = WindowCache(harness.pool, harness.context.wakeups)
    found = await asyncio.gather(*(cache.read(start) for _ in range(5)))

    assert queries == [start]
    assert [len(windows[0].events) for windows in found] == [3] * 5
    assert cache.is_end(found[0][-1].after)


async def test_a_reader_behind_the_others_reads_by_itself(
    harness: WorkerHarness, start: Cursor
) -> None:
    await write_window(harness, 2)
    cache = WindowCache(harness.pool, harness.context.wakeups)
    _, end = await read_all(cache, start)
    for _ in range(window_cache.MAX_WINDOWS + 1):  # the first window is kept no longer
        await write_window(harness, 1)
        _, end = await read_all(cache, end)
    late, late_end = await read_all(cache, start)

    assert late == await list_ids(harness.pool)
    assert late_end == end
    assert not cache.is_end(start)


async def test_windows_are_kept_for_a_short_time(
    harness: WorkerHarness,
    start: Cursor,
    queries: list[Cursor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await write_window(harness, 1)
    cache = WindowCache(harness.pool, harness.context.wakeups)
    await cache.read(start)
    monkeypatch.setattr(window_cache, "KEPT_S", 0.0)
    await cache.read(start)

    assert queries == [start, start]


@pytest.mark.parametrize("seed", range(5))
async def test_readers_of_any_pace_get_every_event_once_and_in_order(
    harness: WorkerHarness, start: Cursor, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Windows are also larger than a query, and are read while others are written."""
    monkeypatch.setattr(window_cache, "MAX_EVENTS", 4)
    monkeypatch.setattr(window_cache, "MAX_WINDOWS", 3)
    monkeypatch.setattr(window_cache, "READ_AHEAD", 5)
    rng = random.Random(seed)
    cache = WindowCache(harness.pool, harness.context.wakeups)
    is_written = asyncio.Event()

    async def write() -> None:
        for _ in range(12):
            await write_window(harness, rng.choice([1, 1, 2, 9]))
        is_written.set()

    async def read(pace_s: float) -> list[int]:
        ids, cursor = [], start
        while True:
            is_last = is_written.is_set()
            more, cursor = await read_all(cache, cursor)
            ids += more
            if is_last:
                return ids
            await asyncio.sleep(rng.random() * pace_s)

    _, *read_ids = await asyncio.gather(write(), *(read(pace_s) for pace_s in (0, 0.01, 0.05, 0.2)))
    expected = await list_ids(harness.pool)
    assert read_ids == [expected] * 4
