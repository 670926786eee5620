"""Replays driven by hand: broken off, taken over, and done by two at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.replays import Replay, ReplayRequest, get_replay, start_replay
from tests.desk import Desk, close, open_desk
from tests.receiver import Receiver, run_receiver
from tests.workbench import Workbench
from workers.dispatcher import Dispatcher
from workers.replayer import Replayer

LEADS, VERSIONS = 7, 5
COUNT = LEADS * VERSIONS


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as receiver:
        yield receiver


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


async def start(desk: Desk) -> Replay:
    async with desk.pool.acquire() as conn:
        return await start_replay(
            conn, desk.tenant_id, True, desk.id, ReplayRequest(since="2026-01-01")
        )


async def look(desk: Desk, replay: Replay) -> Replay:
    async with desk.pool.acquire() as conn:
        found = await get_replay(conn, desk.tenant_id, True, desk.id, replay.id)
    assert found is not None
    return found


async def test_a_replay_that_was_broken_off_goes_on_where_it_was(
    desk: Desk, receiver: Receiver
) -> None:
    replay = await start(desk)
    seen = []
    for _ in range(5):  # each by another process, as after a crash
        await Replayer(desk.shop).once()
        seen.append((await look(desk, replay)).seen)
    assert seen == [3, 6, 9, 12, 15]
    while await Replayer(desk.shop).once():
        pass
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
    while await Replayer(desk.shop).once():
        pass
    await drain(desk)
    assert_each_once_in_order(receiver)


def assert_each_once_in_order(receiver: Receiver) -> None:
    ids = [received.id for received in receiver.received]
    assert len(ids) == len(set(ids)) == COUNT
    for n in range(LEADS):
        of_lead = [i for i in ids if i.startswith(f"evt_l{n}_")]
        assert of_lead == [f"evt_l{n}_{version}" for version in range(1, VERSIONS + 1)]
