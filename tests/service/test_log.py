"""Windows: what a tick cuts, and what a reader with a cursor gets."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

import sql
from service.db import Connection, Pool
from service.log import SHARDS, Cursor, CursorTooOldError, Event, read_window, read_windows

ALL = list(SHARDS)


async def cut(pool: Pool) -> int | None:
    """The new tick; None if there is nothing new."""
    tick = await pool.fetchval("SELECT tick FROM ticker")
    found: int | None = await pool.fetchval(sql.ticker_cut, tick)
    return found


async def append(db: Connection | Pool, lead_id: str, version: int = 1) -> None:
    await db.execute(
        "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, "
        "data) VALUES (lead_shard($1), 1, true, $1, $2::bigint, $1 || '.' || $2::bigint, "
        "'lead.updated', 'key_1', now_ms(), '{}')",
        lead_id,
        version,
    )


async def append_and_undo(conn: Connection, lead_id: str) -> None:
    """In a transaction, or a savepoint of one."""
    transaction = conn.transaction()
    await transaction.start()
    await append(conn, lead_id)
    await transaction.rollback()


async def read_all(pool: Pool, cursor: Cursor, limit: int = 1000) -> tuple[list[Event], Cursor]:
    events: list[Event] = []
    async with pool.acquire() as conn:
        while window := await read_window(conn, cursor, ALL, limit):
            assert len(window.events) <= limit
            events += window.events
            cursor = window.after
    return events, cursor


@pytest.fixture
async def start(committed: Pool) -> Cursor:
    """Where a new reader would begin."""
    return Cursor(await committed.fetchval("SELECT tick FROM ticker"))


@pytest.fixture
async def second(committed: Pool) -> AsyncIterator[Connection]:
    """A connection for a transaction of one's own."""
    async with committed.acquire() as conn:
        yield conn


async def test_without_events_no_tick_is_cut_and_there_is_no_window(
    committed: Pool, start: Cursor
) -> None:
    assert await cut(committed) is None
    async with committed.acquire() as conn:
        assert await read_window(conn, start, ALL, 10) is None


async def test_only_one_of_two_tickers_cuts_a_tick(committed: Pool) -> None:
    await append(committed, "a")
    tick = await committed.fetchval("SELECT tick FROM ticker")

    assert await committed.fetchval(sql.ticker_cut, tick) == tick + 1
    await append(committed, "b")
    assert await committed.fetchval(sql.ticker_cut, tick) is None


async def test_an_event_is_in_one_window_and_the_cursor_passes_it(
    committed: Pool, start: Cursor
) -> None:
    await append(committed, "a")
    tick = await cut(committed)
    async with committed.acquire() as conn:
        window = await read_window(conn, start, ALL, 10)
        assert window is not None
        assert [event.event_id for event in window.events] == ["a.1"]
        assert window.after == Cursor(tick or 0)
        assert await read_window(conn, window.after, ALL, 10) is None


async def test_a_window_without_rows_of_these_shards_is_empty_and_passed(
    committed: Pool, start: Cursor
) -> None:
    await append(committed, "a")
    await cut(committed)
    shard = await committed.fetchval("SELECT shard FROM outbox")
    async with committed.acquire() as conn:
        window = await read_window(conn, start, [n for n in ALL if n != shard], 10)

    assert window is not None
    assert window.events == []
    assert window.after == Cursor(start.tick + 1)


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
    found: list[str] = []
    cursor = start
    async with committed.acquire() as conn:
        while windows := await read_windows(conn, cursor, ALL, limit, count):
            assert len(windows) <= count
            found += [event.lead_id for window in windows for event in window.events]
            cursor = windows[-1].after

    assert "".join(found) == "abcdef"
    assert cursor == Cursor(start.tick + 3)


async def test_reading_a_window_again_gives_the_same_rows_however_much_has_come_since(
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
        again = await read_window(conn, start, ALL, 100)

    assert again is not None
    assert again.events == first
    assert [event.lead_id for event in first] == ["a", "b"]


async def test_the_events_of_a_long_transaction_come_in_the_window_of_its_commit(
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


async def test_what_is_rolled_back_is_never_seen_and_what_a_savepoint_keeps_is(
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


async def test_a_cursor_whose_tick_is_gone_is_refused_and_not_passed_over_in_silence(
    committed: Pool, start: Cursor
) -> None:
    for name in "abc":
        await append(committed, name)
        await cut(committed)
    await committed.execute("DELETE FROM tick WHERE tick <= $1", start.tick + 1)
    async with committed.acquire() as conn:
        with pytest.raises(CursorTooOldError, match=str(start.tick)):
            await read_window(conn, start, ALL, 10)
        window = await read_window(conn, Cursor(start.tick + 2), ALL, 10)

    assert window is not None
    assert [event.lead_id for event in window.events] == ["c"]


async def test_in_another_cluster_a_new_generation_begins_and_nothing_unread_is_lost(
    committed: Pool, start: Cursor, admin_conn: asyncpg.Connection
) -> None:
    await append(committed, "read")
    await cut(committed)
    read, cursor = await read_all(committed, start)
    await append(committed, "unread")
    # A restore elsewhere: the stored transaction ids are far above those of the new cluster.
    await admin_conn.execute("UPDATE outbox SET txid = (txid::text::bigint + 1000000)::text::xid8")
    await admin_conn.execute(
        "UPDATE ticker SET cluster = 'another', snap = (x + 1000000 || ':' || x + 1000000 || ':')"
        "::pg_snapshot FROM (SELECT pg_snapshot_xmax(snap)::text::bigint AS x FROM ticker) AS s"
    )
    await admin_conn.execute("UPDATE tick SET snap = ticker.snap FROM ticker "
                             "WHERE tick.tick = ticker.tick")  # fmt: skip

    assert await committed.fetchval(sql.log_begin_generation_if_moved) is True
    assert await committed.fetchval(sql.log_begin_generation_if_moved) is False
    await append(committed, "new")
    await cut(committed)
    after, last = await read_all(committed, cursor)
    await append(committed, "newest")
    await cut(committed)
    newest, _ = await read_all(committed, last)

    assert [event.lead_id for event in read] == ["read"]
    assert [event.lead_id for event in after] == ["unread", "new"]
    assert [event.lead_id for event in newest] == ["newest"]
    await admin_conn.execute("ALTER TABLE outbox ALTER COLUMN generation SET DEFAULT 1")
