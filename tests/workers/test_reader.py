"""The base class of readers: effects and cursor are stored together, in bounded batches."""

from itertools import count

import pytest

import sql
from service.events.event_log import Cursor, Event, Window
from service.ids import make_id
from tests.harness.worker_harness import WorkerHarness
from workers.jobs import CursorMovedError, WorkerContext
from workers.reader import STORE_S, Move, Reader, check_moved, make_batches
from workers.ticker import Ticker

_numbers = count()


class SmallReader(Reader):
    """Applies three events at a time; raises `fails` times after its effect."""

    name = "timeline_writer"
    max_events = 3

    def __init__(self, context: WorkerContext, fails: int = 0) -> None:
        super().__init__(context)
        self.seen: list[str] = []
        self._fails = fails

    async def apply(self, events: list[Event], move: Move) -> bool:
        assert len(events) <= self.max_events
        async with self.context.pool.acquire() as conn, conn.transaction():
            await conn.execute("INSERT INTO tenant (name) VALUES ($1)", make_id("evt"))
            if self._fails and self.seen:
                self._fails -= 1
                raise ArithmeticError("a fault in the effect")
            check_moved(await conn.fetchval(sql.reader_advance_if_at, *move.arguments))
        self.seen += [event.lead_id for event in events]
        return True


class IdleReader(SmallReader):
    """Finds nothing to do."""

    async def apply(self, events: list[Event], _: Move) -> bool:
        self.seen += [event.lead_id for event in events]
        return False


async def write_leads(harness: WorkerHarness, *windows: int) -> list[str]:
    """Captures the given number of leads in each window; returns their ids in log order."""
    ids: list[str] = []
    for window in windows:
        ids += [
            await harness.capture(f'{{"email": "{next(_numbers)}@acme.com"}}')
            for _ in range(window)
        ]
        await Ticker(harness.context).once()
    return ids


async def drain(reader: Reader) -> None:
    while await reader.once():
        pass


@pytest.mark.parametrize("windows", [(11,), (1, 1, 1), (3, 3), (2, 7, 1), (4,), (1,) * 9])
async def test_every_event_is_applied_once_with_windows_of_any_size(
    harness: WorkerHarness, windows: tuple[int, ...]
) -> None:
    ids = await write_leads(harness, *windows)
    reader = SmallReader(harness.context)
    await drain(reader)

    assert reader.seen == ids


async def test_a_batch_that_fails_has_no_effect_and_is_applied_again(
    harness: WorkerHarness,
) -> None:
    ids = await write_leads(harness, 11)
    reader = SmallReader(harness.context, fails=2)
    for _ in range(2):
        with pytest.raises(ArithmeticError):
            await drain(reader)
    await drain(reader)

    assert reader.seen == ids
    effects = await harness.pool.fetchval("SELECT count(*) FROM tenant WHERE name LIKE 'evt_%'")
    assert effects == 4


async def test_a_reader_continues_within_a_window(
    harness: WorkerHarness,
) -> None:
    ids = await write_leads(harness, 11)
    first = SmallReader(harness.context)
    await first.once()
    await first.once()
    second = SmallReader(harness.context)
    await drain(second)

    assert first.seen + second.seen == ids


async def test_of_two_concurrent_readers_only_one_has_effects(harness: WorkerHarness) -> None:
    ids = await write_leads(harness, 5)
    stale, current = SmallReader(harness.context), SmallReader(harness.context)
    await stale.once()
    await drain(current)
    with pytest.raises(CursorMovedError):
        await stale.once()

    assert stale.seen + current.seen == ids
    effects = await harness.pool.fetchval("SELECT count(*) FROM tenant WHERE name LIKE 'evt_%'")
    assert effects == 2


async def read_stored(harness: WorkerHarness) -> tuple[int, int]:
    """The stored tick of the reader, and the newest tick of the log."""
    row = await harness.pool.fetchrow(
        "SELECT r.tick, t.tick FROM reader r, ticker t WHERE r.name = 'timeline_writer'"
    )
    assert row is not None
    return tuple(row)


async def test_the_cursor_of_a_reader_with_nothing_to_do_is_stored_soon(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = IdleReader(harness.context)
    ids = await write_leads(harness, 1, 1, 1)
    await drain(reader)
    stored, newest = await read_stored(harness)
    assert stored < newest
    assert (reader.is_drained, reader.idle_s) == (True, STORE_S)
    monkeypatch.setattr("workers.reader.STORE_S", 0)
    await reader.once()

    assert await read_stored(harness) == (newest, newest)
    assert reader.seen == ids


class HalfIdleReader(SmallReader):
    """Finds nothing to do in every second batch."""

    async def apply(self, events: list[Event], move: Move) -> bool:
        if len(self.seen) % 2:
            return await super().apply(events, move)
        self.seen += [event.lead_id for event in events]
        return False


@pytest.mark.parametrize("kind", [IdleReader, HalfIdleReader])
async def test_a_cursor_stored_late_is_the_base_of_the_next_move(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch, kind: type[SmallReader]
) -> None:
    monkeypatch.setattr("workers.reader.STORE_S", 0)
    reader = kind(harness.context)
    for _ in range(4):
        await write_leads(harness, 1)
        await reader.once()
    rows = await harness.pool.fetch("SELECT lead_id FROM outbox ORDER BY id")
    await reader.once()

    assert reader.seen == [row["lead_id"] for row in rows]
    stored, newest = await read_stored(harness)
    assert stored == newest


async def test_after_an_error_a_reader_continues_at_its_stored_cursor(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database may have been replaced by one with an older log."""
    reader = IdleReader(harness.context)
    first = await write_leads(harness, 1)
    await drain(reader)
    with monkeypatch.context() as patch:
        patch.setattr("workers.window_cache.read_windows", None)
        with pytest.raises(TypeError):
            await reader.once()
    await drain(reader)

    assert reader.seen == [*first, *first]


async def test_a_reader_that_ends_stores_its_cursor(harness: WorkerHarness) -> None:
    reader = IdleReader(harness.context)
    await write_leads(harness, 1)
    await drain(reader)
    await reader.close()
    stored, newest = await read_stored(harness)

    assert stored == newest


async def test_windows_without_effect_are_read_again_after_a_crash(
    harness: WorkerHarness,
) -> None:
    ids = await write_leads(harness, 1, 1)
    await drain(IdleReader(harness.context))
    second = SmallReader(harness.context)
    await drain(second)

    assert second.seen == ids


def test_small_windows_make_one_batch_and_a_large_window_makes_several() -> None:
    events = [
        Event(n, 0, 1, True, f"lead{n}", 1, "evt", "lead.created", "key_1", "", "{}", 1)
        for n in range(1, 8)
    ]
    large = make_batches([Window(events, Cursor(5), 2.0, 5, 1, 0)], 3, now=10.0)
    small = make_batches(
        [Window(events[:1], Cursor(5), 2.0, 5, 1, 0), Window(events[1:3], Cursor(6), 1.0, 6, 1, 0)],
        3,
        10,
    )

    assert [batch.after for batch in large] == [Cursor(4, 3), Cursor(4, 6), Cursor(5)]
    assert [len(batch.events) for batch in large] == [3, 3, 1]
    assert [(len(batch.events), batch.after, batch.cut_at) for batch in small] == [
        (3, Cursor(6), 8.0)
    ]
    assert make_batches([], 3, 10) == []


async def test_a_reader_at_the_end_of_the_log_is_drained(
    harness: WorkerHarness,
) -> None:
    reader = SmallReader(harness.context)
    await write_leads(harness, 1, 1, 1)
    await drain(reader)
    await harness.capture('{"email": "news@acme.com"}')
    await Ticker(harness.context).once()
    assert await reader.once()
    assert (len(reader.seen), reader.is_drained) == (4, True)
