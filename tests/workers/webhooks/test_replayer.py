"""The steps of replays: interrupted, continued by another process, or run by several at once."""

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
from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness
from tests.harness.worker_harness import WorkerHarness
from tests.loopback.receiver import Receiver
from workers.dispatcher import Dispatcher
from workers.replayer import Replayer

LEADS, VERSIONS = 7, 5
COUNT = LEADS * VERSIONS


@pytest.fixture
async def delivery_harness(
    harness: WorkerHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> DeliveryHarness:
    """A harness with COUNT finished deliveries. Each step of a replay reads three."""
    monkeypatch.setattr("workers.replayer.PAGE", 3)
    delivery_harness = await open_delivery_harness(harness, receiver.url)
    await delivery_harness.add(
        *[(f"l{n}", version) for version in range(1, VERSIONS + 1) for n in range(LEADS)]
    )
    await drain(delivery_harness)
    receiver.received.clear()
    return delivery_harness


async def drain(delivery_harness: DeliveryHarness) -> None:
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)


async def start(
    delivery_harness: DeliveryHarness, since: str = "2026-01-01", until: str | None = None
) -> Replay:
    async with delivery_harness.pool.acquire() as conn:
        request = ReplayRequest(since=since, until=until)
        return await start_replay(
            conn, delivery_harness.tenant_id, True, delivery_harness.id, request
        )


async def read(delivery_harness: DeliveryHarness, replay: Replay) -> Replay:
    async with delivery_harness.pool.acquire() as conn:
        return await get_replay(
            conn, delivery_harness.tenant_id, True, delivery_harness.id, replay.id
        )


async def finish(delivery_harness: DeliveryHarness) -> None:
    while await Replayer(delivery_harness.context).once():
        pass


async def test_an_interrupted_replay_continues_from_its_position(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    replay = await start(delivery_harness)
    seen = []
    for _ in range(5):  # each step in another process, as after a crash
        await Replayer(delivery_harness.context).once()
        seen.append((await read(delivery_harness, replay)).seen)
    assert seen == [3, 6, 9, 12, 15]
    await finish(delivery_harness)
    done = await read(delivery_harness, replay)
    assert (done.state, done.seen, done.sent, done.expired) == ("done", COUNT, COUNT, 0)
    await drain(delivery_harness)
    assert_each_once_in_order(receiver)


async def test_concurrent_replayers_send_each_delivery_once(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    replay = await start(delivery_harness)
    replayers = [Replayer(delivery_harness.context) for _ in range(4)]
    while sum(await asyncio.gather(*(replayer.once() for replayer in replayers))):
        pass
    assert (await read(delivery_harness, replay)).sent == COUNT
    await drain(delivery_harness)
    assert_each_once_in_order(receiver)


async def test_a_failed_step_is_repeated_as_a_whole(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    replay = await start(delivery_harness)
    await Replayer(delivery_harness.context).once()
    await delivery_harness.pool.execute("ALTER TABLE webhook_event RENAME TO gone")
    with pytest.raises(Exception, match="webhook_event"):
        await Replayer(delivery_harness.context).once()
    await delivery_harness.pool.execute("ALTER TABLE gone RENAME TO webhook_event")
    assert (await read(delivery_harness, replay)).seen == 3
    await finish(delivery_harness)
    await drain(delivery_harness)
    assert_each_once_in_order(receiver)


async def test_a_replay_sends_exactly_the_deliveries_created_in_its_range(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    await delivery_harness.pool.execute(
        "UPDATE delivery_final SET created_at = "
        "'2026-05-01T12:00:00Z'::timestamptz + version * interval '1 minute'"
    )
    replay = await start(delivery_harness, "2026-05-01T12:02:00Z", "2026-05-01T12:04:00Z")
    await Replayer(delivery_harness.context).once()
    assert (await read(delivery_harness, replay)).reached_at == "2026-05-01T12:02:00.000Z"
    await finish(delivery_harness)
    done = await read(delivery_harness, replay)
    assert (done.seen, done.sent, done.reached_at) == (2 * LEADS, 2 * LEADS, done.until)
    await drain(delivery_harness)
    ids = sorted(received.id for received in receiver.received)
    assert ids == sorted(f"evt_l{n}_{version}" for version in (2, 3) for n in range(LEADS))


@pytest.mark.parametrize(
    ("since", "until"), [("2026-01-01", "2026-01-02"), ("2026-05-01T12:05:00.001Z", None)]
)
async def test_a_replay_of_an_empty_range_sends_nothing(
    delivery_harness: DeliveryHarness, receiver: Receiver, since: str, until: str | None
) -> None:
    await delivery_harness.pool.execute(
        "UPDATE delivery_final SET created_at = '2026-05-01T12:05:00Z'"
    )
    replay = await start(delivery_harness, since, until)
    await finish(delivery_harness)
    done = await read(delivery_harness, replay)
    assert (done.state, done.seen, done.sent) == ("done", 0, 0)
    assert (await delivery_harness.rows(), receiver.received) == ([], [])


async def test_a_cancelled_replay_creates_no_more_deliveries(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    replay = await start(delivery_harness)
    await Replayer(delivery_harness.context).once()
    owner_ids = delivery_harness.tenant_id, True, delivery_harness.id
    async with delivery_harness.pool.acquire() as conn:
        await cancel_replay(conn, *owner_ids, replay.id)
        with pytest.raises(Conflict, match="it is cancelled"):
            await cancel_replay(conn, *owner_ids, replay.id)
        with pytest.raises(NotFound):
            await cancel_replay(conn, *owner_ids, "rpl_none")
    await finish(delivery_harness)
    ended = await read(delivery_harness, replay)
    assert (ended.state, ended.sent, ended.finished_at is None) == ("cancelled", 3, False)
    await drain(delivery_harness)
    assert len(receiver.received) == 3  # the deliveries of the first step
    second = await start(delivery_harness)
    async with delivery_harness.pool.acquire() as conn:
        replays = await list_replays(conn, *owner_ids)
    assert [(each.id, each.state) for each in replays] == [
        (second.id, "running"), (replay.id, "cancelled"),
    ]  # fmt: skip


async def test_a_replay_does_not_read_the_waiting_deliveries(
    delivery_harness: DeliveryHarness,
) -> None:
    await start(delivery_harness)
    await delivery_harness.pool.execute(
        "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, due_at, "
        "created_at) SELECT $1, true, $2, 'evt_' || n, now(), 'lead.updated', now(), now() "
        "FROM generate_series(1, 20000) AS n", delivery_harness.tenant_id, delivery_harness.id,
    )  # fmt: skip
    await delivery_harness.pool.execute("VACUUM ANALYZE delivery")
    async with delivery_harness.pool.acquire() as conn, conn.transaction():
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
