"""Streams are also bounded in bytes, and their entries of large events are thin."""

import json

import aiohttp
import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from service.events.event_log import SHARDS as LOG_SHARDS
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.harness.factories import make_tenant
from tests.workers.streams.stream_harness import Consumer, StreamHarness, publish
from workers.publisher import Publisher
from workers.streams.positions import StreamName
from workers.streams.redis_streams import LARGE_EVENT_BYTES, make_key

pytestmark = pytest.mark.usefixtures("maintain_every_turn")
BOUND = 100_000
BATCH = 20_000
FILLER = 2_000


async def measure_memory(redis: Redis) -> dict[int, int]:
    """The memory of each stream, as counted by Redis."""
    keys = {shard: make_key(StreamName(shard, 1)) for shard in LOG_SHARDS}
    return {shard: await redis.memory_usage(key, 0) or 0 for shard, key in keys.items()}


def read_gauge(name: str, shard: int) -> float:
    return REGISTRY.get_sample_value(name, {"shard": str(shard)}) or 0


async def test_a_dead_connector_leaves_a_stream_of_bounded_bytes_and_loses_no_event(
    stream_harness: StreamHarness, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.publisher.MAX_BATCH_BYTES", BATCH)
    stream_harness.settings = replace(settings, stream_max_bytes=BOUND)
    publisher, dead = stream_harness.make_publisher(), Consumer(stream_harness.redis, "dead")
    await publish(publisher)
    await dead.join()
    for _ in range(20):
        await stream_harness.log(60, filler=FILLER)
        await publish(publisher)
    memory = await measure_memory(stream_harness.redis)
    assert max(memory.values()) < 1.5 * (BOUND + BATCH)
    fullest = max(memory, key=lambda shard: memory[shard])
    assert read_gauge("leadlog_stream_bytes", fullest) >= BOUND
    assert read_gauge("leadlog_stream_fill_ratio", fullest) >= 1
    while await dead.read(10):
        await publish(publisher)
    assert len(dead.entries) == len(stream_harness.logged)
    assert dead.event_ids == set(stream_harness.logged)
    assert dead.find_gaps() == []
    await publish(publisher)
    assert read_gauge("leadlog_stream_fill_ratio", fullest) == 0


async def test_one_large_window_is_appended_in_pieces_and_in_order(
    stream_harness: StreamHarness, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.publisher.MAX_BATCH_BYTES", BATCH)
    await stream_harness.log(500, filler=FILLER)
    await stream_harness.log(10)
    await publish(publisher)
    entries = await stream_harness.read()
    assert [entry.event_id for entry in entries] == stream_harness.logged
    for shard in LOG_SHARDS:
        entries_of_shard = await stream_harness.redis.xrange(make_key(StreamName(shard, 1)))
        ids = [entry_id for entry_id, _ in entries_of_shard]
        assert [fields[b"prev"] for _, fields in entries_of_shard] == [b"0-0", *ids][:-1]


async def test_without_a_group_a_stream_keeps_its_newest_bytes(
    stream_harness: StreamHarness, settings: Settings
) -> None:
    stream_harness.settings = replace(settings, stream_max_bytes=BOUND)
    publisher = stream_harness.make_publisher()
    for _ in range(20):
        await stream_harness.log(60, filler=FILLER)
        await publish(publisher)
    memory = await measure_memory(stream_harness.redis)
    assert BOUND / 2 < max(memory.values()) < 1.5 * BOUND
    last = {entry.lead_id: entry.version for entry in await stream_harness.read()}
    assert last == stream_harness.versions


@pytest.mark.parametrize("filler", [0, 700, 20_000])
async def test_the_counted_bytes_are_about_the_memory_that_redis_needs(
    stream_harness: StreamHarness, publisher: Publisher, filler: int
) -> None:
    for _ in range(3):
        await stream_harness.log(200, filler=filler)
    await publish(publisher)
    memory = await measure_memory(stream_harness.redis)
    for shard in LOG_SHARDS:
        counted = read_gauge("leadlog_stream_bytes", shard)
        assert counted == pytest.approx(memory[shard], rel=0.4, abs=8_000)


async def test_a_large_event_is_thin_and_its_entry_has_the_cursor_of_the_whole_event(
    stream_harness: StreamHarness, publisher: Publisher, settings: Settings
) -> None:
    async with stream_harness.pool.acquire() as conn:
        tenant = await make_tenant(conn)
    stream_harness.tenant_id = tenant.id
    await stream_harness.log(20)
    large = await stream_harness.log(9, leads=1, filler=LARGE_EVENT_BYTES)
    await stream_harness.log(20)
    await publish(publisher)
    shard = await stream_harness.pool.fetchval("SELECT lead_shard('lead_0')")
    entries = await stream_harness.redis.xrange(make_key(StreamName(shard, 1)))
    thin = [fields for _, fields in entries if b"after" in fields]
    assert [fields[b"event_id"].decode() for fields in thin] == large
    assert [len(fields) for _, fields in entries if b"after" not in fields] == [9] * (
        len(entries) - 9
    )
    async with serve_api(settings) as url, aiohttp.ClientSession() as session:
        api = Api(url, session, tenant, tenant.key("read"))
        for fields in thin:
            envelope = json.loads(fields[b"envelope"])
            assert envelope["id"] == fields[b"event_id"].decode()
            assert envelope["data"] == {"leadId": "lead_0", "version": int(fields[b"version"])}
            page = (await api.get("/v1/events", after=fields[b"after"].decode(), limit=1)).json
            [event] = page["data"]
            assert event["id"] == envelope["id"]
            assert len(event["data"]["lead"]["name"]) == LARGE_EVENT_BYTES
