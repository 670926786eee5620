"""The publisher with a real Redis that is wiped, trimmed, filled and restarted."""

import asyncio
import json
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import CapturingLogger

import sql
from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Valkey
from service.database.connect import Pool
from service.events.event_log import SHARDS as LOG_SHARDS
from service.settings import Settings
from tests.harness.cluster import Cluster
from tests.workers.streams.stream_harness import Consumer, StreamHarness, publish
from workers.jobs import CursorMovedError
from workers.publisher import Publisher
from workers.streams.positions import EntryId, StreamName, step_before
from workers.streams.redis_streams import make_key

pytestmark = pytest.mark.usefixtures("maintain_every_turn")


async def test_every_event_is_in_the_streams_once_and_in_order(
    stream_harness: StreamHarness, publisher: Publisher
) -> None:
    for size in (1, 30, 7):
        await stream_harness.log(size)
    await publish(publisher)
    entries = await stream_harness.read()
    assert [entry.event_id for entry in entries] == stream_harness.logged
    assert {entry.version for entry in entries if entry.lead_id == "lead_0"} == {1, 2, 3, 4}


async def test_an_entry_has_the_fields_that_a_connector_needs(
    stream_harness: StreamHarness, publisher: Publisher
) -> None:
    [event_id] = await stream_harness.log(1)
    await publish(publisher)
    shard = await stream_harness.pool.fetchval(
        "SELECT shard FROM outbox WHERE event_id = $1", event_id
    )
    [(_, fields)] = await stream_harness.redis.xrange(f"leadlog:events:{{g1s{shard}}}")
    envelope = json.loads(fields.pop(b"envelope"))
    assert 200 < int(fields.pop(b"total_bytes")) < 600
    assert fields == {
        b"prev": b"0-0", b"tenant": b"7", b"mode": b"live", b"lead_id": b"lead_0",
        b"version": b"1", b"type": b"lead.updated", b"event_id": event_id.encode(),
    }  # fmt: skip
    assert list(envelope) == ["id", "type", "apiVersion", "createdAt", "data"]
    assert envelope["id"] == event_id
    assert envelope["data"] == {"lead": {"id": "lead_0"}, "version": 1}


async def test_an_entry_names_the_previous_entry_of_its_stream(
    stream_harness: StreamHarness, publisher: Publisher
) -> None:
    for _ in range(3):
        await stream_harness.log(30)
        await publish(publisher)
    for shard in LOG_SHARDS:
        entries = await stream_harness.redis.xrange(make_key(StreamName(shard, 1)))
        ids = [entry_id for entry_id, _ in entries]
        assert [fields[b"prev"] for _, fields in entries] == [b"0-0", *ids][:-1]


async def test_publishing_again_adds_nothing(
    stream_harness: StreamHarness, publisher: Publisher
) -> None:
    begin = await stream_harness.pool.fetchval("SELECT tick FROM reader WHERE name = 'publisher'")
    await stream_harness.log(40)
    await publish(publisher)
    before = await stream_harness.read()
    await stream_harness.pool.execute("DELETE FROM stream")
    await stream_harness.pool.execute(
        "UPDATE reader SET tick = $1, event_id = 0 WHERE name = 'publisher'", begin
    )
    await publish(stream_harness.make_publisher())
    assert await stream_harness.read() == before


@pytest.mark.parametrize("idle", [True, False])
@pytest.mark.parametrize("fault", ["flushall", "del", "xtrim", "script_flush", "foreign"])
async def test_a_group_misses_nothing_when_redis_loses_entries(
    stream_harness: StreamHarness, publisher: Publisher, fault: str, idle: bool
) -> None:
    crm = Consumer(stream_harness.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stream_harness.log(40)
    await publish(publisher)
    await crm.read(2)
    await crm.read(1, ack=False)
    await publish(publisher)
    await damage_streams(stream_harness.redis, fault)
    if not idle:
        await stream_harness.log(40)
    await publish(publisher)
    await stream_harness.log(10)
    await publish(publisher)
    while await crm.read():
        await publish(publisher)
    assert crm.event_ids == set(stream_harness.logged)
    assert crm.find_gaps() == []


async def test_unread_entries_are_published_again_even_if_the_group_read_later_entries(
    stream_harness: StreamHarness, publisher: Publisher
) -> None:
    crm = Consumer(stream_harness.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stream_harness.log(80)
    await publish(publisher)
    for shard in LOG_SHARDS:
        await stream_harness.redis.xtrim(make_key(StreamName(shard, 1)), maxlen=1)
    await crm.read()
    assert len(crm.event_ids) < len(stream_harness.logged)
    await publish(publisher)
    await crm.read()
    assert crm.event_ids == set(stream_harness.logged)


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
        await redis.xadd(key, {"writer": "another program"})
        await redis.xreadgroup("crm", "one", {key: ">"}, 1000)


async def test_groups_are_created_again_at_their_positions(
    stream_harness: StreamHarness, publisher: Publisher
) -> None:
    crm, slow = Consumer(stream_harness.redis, "crm"), Consumer(stream_harness.redis, "slow")
    await publish(publisher)
    await crm.join()
    await slow.join()
    await stream_harness.log(80)
    await publish(publisher)
    await crm.read()
    await slow.read(3)
    await publish(publisher)
    await stream_harness.redis.flushall()
    await publish(publisher)
    crm.entries.clear()
    await stream_harness.log(1)
    await publish(publisher)
    await crm.read()
    await slow.read()
    assert [entry.event_id for entry in crm.entries] == stream_harness.logged[-1:]
    assert slow.event_ids == set(stream_harness.logged)
    assert len(slow.entries) == len(stream_harness.logged)


async def test_without_a_group_a_wiped_stream_gets_a_bounded_tail(
    stream_harness: StreamHarness, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.streams.stream_maintenance.TAIL_TICKS", 2)
    for _ in range(5):
        await stream_harness.log(3)
    await publish(publisher)
    await stream_harness.redis.flushall()
    await publish(publisher)
    assert [entry.event_id for entry in await stream_harness.read()] == stream_harness.logged[-6:]


async def test_a_valkey_that_restarts_empty_is_filled_again(
    committed: Pool, settings: Settings, cluster: Cluster
) -> None:
    folder = prepare_folder(Path(cluster.folder) / f"{cluster.worker}-restarted")
    async with Valkey(folder, durable=False) as server:
        redis = Redis.from_url(server.url)
        stream_harness = StreamHarness(committed, redis, settings)
        publisher, crm = stream_harness.make_publisher(), Consumer(redis, "crm")
        await publish(publisher)
        await crm.join()
        await stream_harness.log(40)
        await publish(publisher)
        await crm.read(2)
        await publish(publisher)
        await server.stop()
        await stream_harness.log(10)
        cursor = await committed.fetchrow(sql.reader_get, "publisher")
        with pytest.raises((RedisError, OSError)):
            await publisher.once()
        assert await committed.fetchrow(sql.reader_get, "publisher") == cursor
        await server.start()
        await publish(publisher)
        await crm.read()
        assert crm.event_ids == set(stream_harness.logged)
        assert crm.find_gaps() == []
        await redis.aclose()


async def test_two_publishers_at_once_publish_each_event_once(
    stream_harness: StreamHarness,
) -> None:
    done = asyncio.Event()

    async def keep_publishing() -> None:
        publisher = stream_harness.make_publisher()
        while not done.is_set():
            try:
                await publisher.once()
            except CursorMovedError:
                continue

    rivals = [asyncio.create_task(keep_publishing()) for _ in range(2)]
    for _ in range(40):
        await stream_harness.log(13)
    done.set()
    await asyncio.gather(*rivals)
    await publish(stream_harness.make_publisher())
    assert [entry.event_id for entry in await stream_harness.read()] == stream_harness.logged


async def test_a_suspended_publisher_does_not_rebuild_streams(
    stream_harness: StreamHarness, publisher: Publisher
) -> None:
    await publish(publisher)
    crm = Consumer(stream_harness.redis, "crm")
    await crm.join()
    rival = stream_harness.make_publisher()
    await stream_harness.log(40)
    await publish(rival)
    await crm.read()
    await publish(rival)
    with pytest.raises(CursorMovedError):
        await publisher.once()
    await stream_harness.log(40)
    await publish(publisher)
    await crm.read()
    assert sorted(entry.event_id for entry in crm.entries) == sorted(stream_harness.logged)


async def test_events_that_retention_has_dropped_are_skipped(
    stream_harness: StreamHarness,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr("workers.publisher.log", lines)
    for _ in range(3):
        await stream_harness.log(10)
    tick = await stream_harness.pool.fetchval(sql.tick_get_newest)
    await stream_harness.pool.execute("DELETE FROM tick WHERE tick < $1", tick - 1)
    await publish(publisher)
    assert [entry.event_id for entry in await stream_harness.read()] == stream_harness.logged[20:]
    assert "events.missed" in [line.args[0] for line in lines.calls]


def test_the_id_before_the_first_entry_of_a_tick_belongs_to_the_previous_tick() -> None:
    assert step_before(EntryId(5, 7)) == (5, 6)
    assert EntryId(4, 10**15) < step_before(EntryId(5, 0)) < EntryId(5, 0)
