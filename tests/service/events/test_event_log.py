"""Ticks cut the log into windows, and readers with a cursor read each event once."""

from collections.abc import AsyncIterator

import pytest

import sql
from service.database.connect import Connection, Pool
from service.events.event_log import (
    SHARDS,
    Cursor,
    CursorTooOldError,
    Event,
    Window,
    read_windows,
)

ALL = list(SHARDS)


async def cut(pool: Pool) -> int | None:
    """Cut a tick and return it; None if there is nothing new."""
    newest = await pool.fetchval("SELECT tick FROM ticker")
    tick: int | None = await pool.fetchval(sql.ticker_cut, newest)
    return tick


async def append(db: Connection | Pool, lead_id: str, version: int = 1) -> None:
    await db.execute(
        "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, "
        "data) VALUES (lead_shard($1), 1, true, $1, $2::bigint, $1 || '.' || $2::bigint, "
        "'lead.updated', 'key_1', now_ms(), '{}')",
        lead_id,
        version,
    )


async def append_and_undo(conn: Connection, lead_id: str) -> None:
    """Append an event and roll it back: a transaction, or a savepoint within one."""
    transaction = conn.transaction()
    await transaction.start()
    await append(conn, lead_id)
    await transaction.rollback()


async def read_window(conn: Connection, cursor: Cursor, limit: int) -> Window | None:
    windows = await read_windows(conn, cursor, limit, 1)
    return windows[0] if windows else None


async def read_all(pool: Pool, cursor: Cursor, limit: int = 1000) -> tuple[list[Event], Cursor]:
    events: list[Event] = []
    async with pool.acquire() as conn:
        while window := await read_window(conn, cursor, limit):
            assert len(window.events) <= limit
            events += window.events
            cursor = window.after
    return events, cursor


@pytest.fixture
async def second(committed: Pool) -> AsyncIterator[Connection]:
    """A second connection, for a concurrent transaction."""
    async with committed.acquire() as conn:
        yield conn


async def test_without_events_no_tick_is_cut_and_there_is_no_window(
    committed: Pool, start: Cursor
) -> None:
    assert await cut(committed) is None
    async with committed.acquire() as conn:
        assert await read_window(conn, start, 10) is None


async def test_only_one_of_two_tickers_cuts_a_tick(committed: Pool) -> None:
    await append(committed, "a")
    tick = await committed.fetchval("SELECT tick FROM ticker")

    assert await committed.fetchval(sql.ticker_cut, tick) == tick + 1
    await append(committed, "b")
    assert await committed.fetchval(sql.ticker_cut, tick) is None


async def test_an_event_is_in_one_window_and_the_next_cursor_is_after_it(
    committed: Pool, start: Cursor
) -> None:
    await append(committed, "a")
    tick = await cut(committed)
    async with committed.acquire() as conn:
        window = await read_window(conn, start, 10)
        assert window is not None
        assert [event.event_id for event in window.events] == ["a.1"]
        assert window.after == Cursor(tick or 0)
        assert await read_window(conn, window.after, 10) is None


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_a_large_window_is_read_in_pieces_without_loss_or_repeat(
    committed: Pool, start: Cursor, limit: int
) -> None:
    for number in range(7):
        await append(committed, f"lead{number}")
    await cut(committed)
    await append(committed, "later")
    await cut(committed)
    events, cursor = await read_all(committed, start, limit)

    assert [event.lead_id for event in events] == [*(f"lead{n}" for n in range(7)), "later"]
    assert cursor == Cursor(start.tick + 2)


@pytest.mark.parametrize(("limit", "count"), [(1, 9), (2, 2), (3, 9), (4, 2), (6, 9), (100, 9)])
async def test_many_windows_at_once_are_the_same_as_one_by_one(
    committed: Pool, start: Cursor, limit: int, count: int
) -> None:
    for names in ("ab", "c", "def"):
        for name in names:
            await append(committed, name)
        await cut(committed)
    names_read: list[str] = []
    cursor = start
    async with committed.acquire() as conn:
        while windows := await read_windows(conn, cursor, limit, count):
            assert len(windows) <= count
            names_read += [event.lead_id for window in windows for event in window.events]
            cursor = windows[-1].after

    assert "".join(names_read) == "abcdef"
    assert cursor == Cursor(start.tick + 3)


async def test_reading_a_window_again_gives_the_same_rows_after_later_commits(
    committed: Pool, start: Cursor, second: Connection
) -> None:
    transaction = second.transaction()
    await transaction.start()
    await append(second, "slow")
    await append(committed, "a")
    await append(committed, "b")
    await cut(committed)
    first, _ = await read_all(committed, start)
    await transaction.commit()
    await append(committed, "c")
    await cut(committed)
    async with committed.acquire() as conn:
        again = await read_window(conn, start, 100)

    assert again is not None
    assert again.events == first
    assert [event.lead_id for event in first] == ["a", "b"]


async def test_the_events_of_a_long_transaction_are_in_the_window_of_its_commit(
    committed: Pool, start: Cursor, second: Connection
) -> None:
    transaction = second.transaction()
    await transaction.start()
    await append(second, "slow", 1)
    for number in range(5):
        await append(committed, f"quick{number}")
        await cut(committed)
    quick, cursor = await read_all(committed, start)
    await append(second, "slow", 2)
    await transaction.commit()
    await append(committed, "last")
    await cut(committed)
    slow, _ = await read_all(committed, cursor)

    assert [event.lead_id for event in quick] == [f"quick{n}" for n in range(5)]
    assert [event.event_id for event in slow] == ["slow.1", "slow.2", "last.1"]


async def test_a_commit_alone_is_enough_to_cut_a_tick(
    committed: Pool, start: Cursor, second: Connection
) -> None:
    transaction = second.transaction()
    await transaction.start()
    await append(second, "slow")
    await append(committed, "a")
    assert await cut(committed) is not None
    assert await cut(committed) is None
    await transaction.commit()

    assert await cut(committed) is not None
    assert [event.lead_id for event in (await read_all(committed, start))[0]] == ["a", "slow"]


async def test_a_reader_sees_events_of_released_savepoints_and_none_of_rolled_back_savepoints(
    committed: Pool, start: Cursor, second: Connection
) -> None:
    async with second.transaction():
        await append(second, "kept")
        await append_and_undo(second, "undone")
        async with second.transaction():
            await append(second, "released")
    await append_and_undo(second, "aborted")
    await cut(committed)
    events, _ = await read_all(committed, start)

    assert [event.lead_id for event in events] == ["kept", "released"]


async def test_rolling_back_the_only_writer_cuts_no_tick(
    committed: Pool, second: Connection
) -> None:
    await append_and_undo(second, "aborted")

    assert await cut(committed) is None


async def test_a_cursor_whose_tick_has_been_dropped_is_refused(
    committed: Pool, start: Cursor
) -> None:
    for name in "abc":
        await append(committed, name)
        await cut(committed)
    await committed.execute("DELETE FROM tick WHERE tick <= $1", start.tick + 1)
    async with committed.acquire() as conn:
        with pytest.raises(CursorTooOldError, match=str(start.tick)):
            await read_window(conn, start, 10)
        window = await read_window(conn, Cursor(start.tick + 2), 10)

    assert window is not None
    assert [event.lead_id for event in window.events] == ["c"]
