"""The publisher against a real Redis that is wiped, trimmed, filled and restarted under it."""

import asyncio
import json
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import CapturingLogger

import sql
from service.db import Pool
from service.dev.datafolder import prepare_folder
from service.dev.servers import Valkey
from service.log import SHARDS as LOG_SHARDS
from service.settings import Settings
from tests.cluster import Cluster
from tests.workers.streaming import Consumer, Stage, publish
from workers.publisher import Publisher
from workers.reader import CursorMovedError
from workers.streams.places import EntryId, StreamName, step_before
from workers.streams.redis_streams import make_key

pytestmark = pytest.mark.usefixtures("tend_every_turn")


async def test_every_event_is_on_the_streams_once_and_in_order(
    stage: Stage, publisher: Publisher
) -> None:
    for size in (1, 30, 7):
        await stage.log(size)
    await publish(publisher)
    entries = await stage.read()
    assert [entry.event_id for entry in entries] == stage.logged
    assert {entry.version for entry in entries if entry.lead_id == "lead_0"} == {1, 2, 3, 4}


async def test_an_entry_carries_what_a_connector_needs(stage: Stage, publisher: Publisher) -> None:
    [event_id] = await stage.log(1)
    await publish(publisher)
    shard = await stage.pool.fetchval("SELECT shard FROM outbox WHERE event_id = $1", event_id)
    [(_, fields)] = await stage.redis.xrange(f"leadlog:events:{{g1s{shard}}}")
    envelope = json.loads(fields.pop(b"envelope"))
    assert fields == {
        b"prev": b"0-0", b"tenant": b"7", b"mode": b"live", b"lead_id": b"lead_0",
        b"version": b"1", b"type": b"lead.updated", b"event_id": event_id.encode(),
    }  # fmt: skip
    assert list(envelope) == ["id", "type", "apiVersion", "createdAt", "data"]
    assert envelope["id"] == event_id
    assert envelope["data"] == {"lead": {"id": "lead_0"}, "version": 1}


async def test_an_entry_names_the_one_before_it_in_its_stream(
    stage: Stage, publisher: Publisher
) -> None:
    for _ in range(3):
        await stage.log(30)
        await publish(publisher)
    for shard in LOG_SHARDS:
        entries = await stage.redis.xrange(make_key(StreamName(shard, 1)))
        ids = [entry_id for entry_id, _ in entries]
        assert [fields[b"prev"] for _, fields in entries] == [b"0-0", *ids][:-1]


async def test_publishing_again_adds_nothing(stage: Stage, publisher: Publisher) -> None:
    begin = await stage.pool.fetchval("SELECT tick FROM reader WHERE name = 'publisher/0'")
    await stage.log(40)
    await publish(publisher)
    before = await stage.read()
    await stage.pool.execute("DELETE FROM stream")
    await stage.pool.execute(
        "UPDATE reader SET tick = $1, event_id = 0 WHERE name = 'publisher/0'", begin
    )
    await publish(stage.make_publisher())
    assert await stage.read() == before


@pytest.mark.parametrize("idle", [True, False])
@pytest.mark.parametrize("fault", ["flushall", "del", "xtrim", "script_flush", "foreign"])
async def test_a_group_misses_nothing_when_redis_loses_entries(
    stage: Stage, publisher: Publisher, fault: str, idle: bool
) -> None:
    crm = Consumer(stage.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stage.log(40)
    await publish(publisher)
    await crm.read(2)
    await crm.read(1, ack=False)
    await publish(publisher)
    await damage_streams(stage.redis, fault)
    if not idle:
        await stage.log(40)
    await publish(publisher)
    await stage.log(10)
    await publish(publisher)
    while await crm.read():
        await publish(publisher)
    assert crm.event_ids == set(stage.logged)
    assert crm.find_gaps() == []


async def test_entries_removed_before_a_group_got_them_are_told_though_it_got_later_ones(
    stage: Stage, publisher: Publisher
) -> None:
    crm = Consumer(stage.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stage.log(80)
    await publish(publisher)
    for shard in LOG_SHARDS:
        await stage.redis.xtrim(make_key(StreamName(shard, 1)), maxlen=1)
    await crm.read()
    assert len(crm.event_ids) < len(stage.logged)
    await publish(publisher)
    await crm.read()
    assert crm.event_ids == set(stage.logged)


async def damage_streams(redis: Redis, fault: str) -> None:
    busy = [s for s in LOG_SHARDS if await redis.xlen(make_key(StreamName(s, 1))) > 3]
    key = make_key(StreamName(busy[0], 1))
    if fault == "flushall":
        await redis.flushall()
    elif fault == "del":
        await redis.delete(key)
    elif fault == "xtrim":
        for shard in LOG_SHARDS:
            await redis.xtrim(make_key(StreamName(shard, 1)), maxlen=0)
    elif fault == "script_flush":
        await redis.script_flush()
    else:
        await redis.xadd(key, {"who": "a stranger"})
        await redis.xreadgroup("crm", "one", {key: ">"}, 1000)


async def test_groups_are_made_again_where_they_stood(stage: Stage, publisher: Publisher) -> None:
    crm, slow = Consumer(stage.redis, "crm"), Consumer(stage.redis, "slow")
    await publish(publisher)
    await crm.join()
    await slow.join()
    await stage.log(80)
    await publish(publisher)
    await crm.read()
    await slow.read(3)
    await publish(publisher)
    await stage.redis.flushall()
    await publish(publisher)
    crm.told.clear()
    await stage.log(1)
    await publish(publisher)
    await crm.read()
    await slow.read()
    assert [told.event_id for told in crm.told] == stage.logged[-1:]
    assert slow.event_ids == set(stage.logged)
    assert len(slow.told) == len(stage.logged)


async def test_without_a_group_a_wiped_stream_gets_a_bounded_tail(
    stage: Stage, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.streams.keeper.TAIL_TICKS", 2)
    for _ in range(5):
        await stage.log(3)
    await publish(publisher)
    await stage.redis.flushall()
    await publish(publisher)
    assert [entry.event_id for entry in await stage.read()] == stage.logged[-6:]


async def test_a_valkey_that_restarts_empty_is_filled_again(
    committed: Pool, settings: Settings, cluster: Cluster
) -> None:
    folder = prepare_folder(Path(cluster.folder) / f"{cluster.worker}-restarted")
    async with Valkey(folder, durable=False) as server:
        redis = Redis.from_url(server.url)
        stage = Stage(committed, redis, settings)
        publisher, crm = stage.make_publisher(), Consumer(redis, "crm")
        await publish(publisher)
        await crm.join()
        await stage.log(40)
        await publish(publisher)
        await crm.read(2)
        await publish(publisher)
        await server.stop()
        await stage.log(10)
        cursor = await committed.fetchrow(sql.reader_get, "publisher/0")
        with pytest.raises((RedisError, OSError)):
            await publisher.once()
        assert await committed.fetchrow(sql.reader_get, "publisher/0") == cursor
        await server.start()
        await publish(publisher)
        await crm.read()
        assert crm.event_ids == set(stage.logged)
        assert crm.find_gaps() == []
        await redis.aclose()


async def test_two_publishers_at_once_do_no_harm(stage: Stage) -> None:
    done = asyncio.Event()

    async def keep_publishing() -> None:
        publisher = stage.make_publisher()
        while not done.is_set():
            try:
                await publisher.once()
            except CursorMovedError:
                continue

    rivals = [asyncio.create_task(keep_publishing()) for _ in range(2)]
    for _ in range(40):
        await stage.log(13)
    done.set()
    await asyncio.gather(*rivals)
    await publish(stage.make_publisher())
    assert [entry.event_id for entry in await stage.read()] == stage.logged


async def test_a_publisher_that_was_suspended_judges_no_stream(
    stage: Stage, publisher: Publisher
) -> None:
    await publish(publisher)
    crm = Consumer(stage.redis, "crm")
    await crm.join()
    rival = stage.make_publisher()
    await stage.log(40)
    await publish(rival)
    await crm.read()
    await publish(rival)
    with pytest.raises(CursorMovedError):
        await publisher.once()
    await stage.log(40)
    await publish(publisher)
    await crm.read()
    assert sorted(told.event_id for told in crm.told) == sorted(stage.logged)


@pytest.mark.parametrize("windows", [1, 64])
async def test_what_retention_has_dropped_is_passed_over(
    stage: Stage, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, windows: int
) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr("workers.publisher.log", lines)
    publisher._windows = windows
    for _ in range(3):
        await stage.log(10)
    tick = await stage.pool.fetchval(sql.ticker_get_tick)
    await stage.pool.execute("DELETE FROM tick WHERE tick < $1", tick - 1)
    await publish(publisher)
    assert [told.event_id for told in await stage.read()] == stage.logged[20:]
    assert "events.missed" in [line.args[0] for line in lines.calls]


def test_just_before_the_first_entry_of_a_tick_is_the_end_of_the_one_before() -> None:
    assert step_before(EntryId(5, 7)) == (5, 6)
    assert EntryId(4, 10**15) < step_before(EntryId(5, 0)) < EntryId(5, 0)
