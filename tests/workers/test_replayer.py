"""Replays driven by hand: broken off, taken over, and done by two at once."""

import asyncio
import json

import pytest

import sql
from service.errors import Conflict, NotFound
from service.webhooks.replays import (
    Replay,
    ReplayRequest,
    cancel_replay,
    get_replay,
    list_replays,
    start_replay,
)
from tests.desk import Desk, close, open_desk
from tests.receiver import Receiver
from tests.workbench import Workbench
from workers.dispatcher import Dispatcher
from workers.replayer import Replayer

LEADS, VERSIONS = 7, 5
COUNT = LEADS * VERSIONS


@pytest.fixture
async def desk(bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """With COUNT deliveries done, and pages of three."""
    monkeypatch.setattr("workers.replayer.PAGE", 3)
    desk = await open_desk(bench, receiver.url)
    await desk.add(
        *[(f"l{n}", version) for version in range(1, VERSIONS + 1) for n in range(LEADS)]
    )
    await drain(desk)
    receiver.received.clear()
    return desk


async def drain(desk: Desk) -> None:
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.drain(dispatcher)
    await close(dispatcher)


async def start(desk: Desk, since: str = "2026-01-01", until: str | None = None) -> Replay:
    async with desk.pool.acquire() as conn:
        wanted = ReplayRequest(since=since, until=until)
        return await start_replay(conn, desk.tenant_id, True, desk.id, wanted)


async def look(desk: Desk, replay: Replay) -> Replay:
    async with desk.pool.acquire() as conn:
        return await get_replay(conn, desk.tenant_id, True, desk.id, replay.id)


async def finish(desk: Desk) -> None:
    while await Replayer(desk.shop).once():
        pass


async def test_a_replay_that_was_broken_off_goes_on_where_it_was(
    desk: Desk, receiver: Receiver
) -> None:
    replay = await start(desk)
    seen = []
    for _ in range(5):  # each by another process, as after a crash
        await Replayer(desk.shop).once()
        seen.append((await look(desk, replay)).seen)
    assert seen == [3, 6, 9, 12, 15]
    await finish(desk)
    done = await look(desk, replay)
    assert (done.state, done.seen, done.sent, done.expired) == ("done", COUNT, COUNT, 0)
    await drain(desk)
    assert_each_once_in_order(receiver)


async def test_two_replayers_at_once_send_nothing_twice(desk: Desk, receiver: Receiver) -> None:
    replay = await start(desk)
    replayers = [Replayer(desk.shop) for _ in range(4)]
    while sum(await asyncio.gather(*(replayer.once() for replayer in replayers))):
        pass
    assert (await look(desk, replay)).sent == COUNT
    await drain(desk)
    assert_each_once_in_order(receiver)


async def test_a_page_that_fails_is_done_again_as_a_whole(desk: Desk, receiver: Receiver) -> None:
    replay = await start(desk)
    await Replayer(desk.shop).once()
    await desk.pool.execute("ALTER TABLE webhook_event RENAME TO gone")
    with pytest.raises(Exception, match="webhook_event"):
        await Replayer(desk.shop).once()
    await desk.pool.execute("ALTER TABLE gone RENAME TO webhook_event")
    assert (await look(desk, replay)).seen == 3
    await finish(desk)
    await drain(desk)
    assert_each_once_in_order(receiver)


async def test_a_replay_sends_what_was_made_in_its_range_and_nothing_else(
    desk: Desk, receiver: Receiver
) -> None:
    await desk.pool.execute(
        "UPDATE delivery_final SET created_at = "
        "'2026-05-01T12:00:00Z'::timestamptz + version * interval '1 minute'"
    )
    replay = await start(desk, "2026-05-01T12:02:00Z", "2026-05-01T12:04:00Z")
    await Replayer(desk.shop).once()
    assert (await look(desk, replay)).reached_at == "2026-05-01T12:02:00.000Z"
    await finish(desk)
    done = await look(desk, replay)
    assert (done.seen, done.sent, done.reached_at) == (2 * LEADS, 2 * LEADS, done.until)
    await drain(desk)
    ids = sorted(received.id for received in receiver.received)
    assert ids == sorted(f"evt_l{n}_{version}" for version in (2, 3) for n in range(LEADS))


@pytest.mark.parametrize(
    ("since", "until"), [("2026-01-01", "2026-01-02"), ("2026-05-01T12:05:00.001Z", None)]
)
async def test_a_replay_over_a_range_of_nothing_sends_nothing(
    desk: Desk, receiver: Receiver, since: str, until: str | None
) -> None:
    await desk.pool.execute("UPDATE delivery_final SET created_at = '2026-05-01T12:05:00Z'")
    replay = await start(desk, since, until)
    await finish(desk)
    done = await look(desk, replay)
    assert (done.state, done.seen, done.sent) == ("done", 0, 0)
    assert (await desk.rows(), receiver.received) == ([], [])


async def test_a_replay_that_is_cancelled_makes_no_more_deliveries(
    desk: Desk, receiver: Receiver
) -> None:
    replay = await start(desk)
    await Replayer(desk.shop).once()
    whose = desk.tenant_id, True, desk.id
    async with desk.pool.acquire() as conn:
        await cancel_replay(conn, *whose, replay.id)
        with pytest.raises(Conflict, match="it is cancelled"):
            await cancel_replay(conn, *whose, replay.id)
        with pytest.raises(NotFound):
            await cancel_replay(conn, *whose, "rpl_none")
    await finish(desk)
    ended = await look(desk, replay)
    assert (ended.state, ended.sent, ended.finished_at is None) == ("cancelled", 3, False)
    await drain(desk)
    assert len(receiver.received) == 3  # they were on their way
    second = await start(desk)
    async with desk.pool.acquire() as conn:
        found = await list_replays(conn, *whose)
    assert [(each.id, each.state) for each in found] == [
        (second.id, "running"), (replay.id, "cancelled"),
    ]  # fmt: skip


async def test_a_replay_reads_none_of_what_waits_beside_it(desk: Desk) -> None:
    await start(desk)
    await desk.pool.execute(
        "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, due_at, "
        "created_at) SELECT $1, true, $2, 'evt_' || n, now(), 'lead.updated', now(), now() "
        "FROM generate_series(1, 20000) AS n", desk.tenant_id, desk.id,
    )  # fmt: skip
    await desk.pool.execute("VACUUM ANALYZE delivery")
    async with desk.pool.acquire() as conn, conn.transaction():
        await conn.execute(f"PREPARE looked_at AS {sql.replay_advance_one}")
        text = await conn.fetchval(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE looked_at (3, 2000)"
        )
        await conn.execute("DEALLOCATE looked_at")
    plan = json.loads(text)[0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 500


def assert_each_once_in_order(receiver: Receiver) -> None:
    ids = [received.id for received in receiver.received]
    assert len(ids) == len(set(ids)) == COUNT
    for n in range(LEADS):
        of_lead = [i for i in ids if i.startswith(f"evt_l{n}_")]
        assert of_lead == [f"evt_l{n}_{version}" for version in range(1, VERSIONS + 1)]
