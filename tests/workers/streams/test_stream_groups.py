"""Groups die, leave, return or change generation: streams stay bounded and no event is lost."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

import sql
from service.database.connect import create_pool
from service.events.event_log import SHARDS as LOG_SHARDS
from service.settings import Settings
from tests.harness.cluster import Cluster
from tests.workers.streams.stream_harness import Consumer, StreamHarness, begin_generation, publish
from workers.publisher import Publisher
from workers.streams.positions import EntryId, StreamName, find_lagging_groups
from workers.streams.redis_streams import GENERATION_KEY, make_key

pytestmark = pytest.mark.usefixtures("maintain_every_turn")


async def test_a_dead_connector_leaves_a_bounded_stream_and_loses_no_event(
    stream_harness: StreamHarness, settings: Settings
) -> None:
    stream_harness.settings = replace(settings, stream_max_entries=20)
    publisher, dead = stream_harness.make_publisher(), Consumer(stream_harness.redis, "dead")
    await publish(publisher)
    await dead.join()
    for _ in range(30):
        await stream_harness.log(20)
        await publish(publisher)
    lengths = await stream_harness.count()
    assert max(lengths.values()) < 20 + 20
    assert sum(lengths.values()) < len(stream_harness.logged) / 2
    while await dead.read(10):
        await publish(publisher)
    assert len(dead.entries) == len(stream_harness.logged)
    assert dead.event_ids == set(stream_harness.logged)
    assert dead.find_gaps() == []
    assert sum((await stream_harness.count()).values()) == 0


async def test_without_a_group_a_stream_keeps_its_newest_entries(
    stream_harness: StreamHarness, settings: Settings
) -> None:
    stream_harness.settings = replace(settings, stream_max_entries=20)
    publisher = stream_harness.make_publisher()
    for _ in range(30):
        await stream_harness.log(20)
    await publish(publisher)
    assert set((await stream_harness.count()).values()) <= {0, 20}
    last = {entry.lead_id: entry.version for entry in await stream_harness.read()}
    assert last == stream_harness.versions


async def test_a_group_that_does_not_move_is_detached_and_gets_all_events_when_it_returns(
    stream_harness: StreamHarness, settings: Settings
) -> None:
    stream_harness.settings = replace(settings, stream_max_entries=20, stream_group_patience_s=1e-6)
    publisher = stream_harness.make_publisher()
    live, dead = Consumer(stream_harness.redis, "live"), Consumer(stream_harness.redis, "dead")
    await publish(publisher)
    await live.join()
    await dead.join()
    for _ in range(30):
        await stream_harness.log(20)
        await publish(publisher)
        await live.read()
    await publish(publisher)
    await live.read()
    assert live.event_ids == set(stream_harness.logged)
    stream_harness.settings = settings  # no group is detached from now on
    publisher = stream_harness.make_publisher()
    await dead.join()
    for _ in range(3):
        await publish(publisher)
        await dead.read()
        await live.read()
    assert dead.event_ids == set(stream_harness.logged)
    assert dead.find_gaps() == []


async def test_a_removed_group_does_not_prevent_trimming_and_may_return(
    stream_harness: StreamHarness, publisher: Publisher
) -> None:
    crm = Consumer(stream_harness.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stream_harness.log(10)
    await publish(publisher)
    for shard in LOG_SHARDS:
        await stream_harness.redis.xgroup_destroy(make_key(StreamName(shard, 1)), "crm")
    await publish(publisher)
    groups = await stream_harness.pool.fetch(sql.stream_group_list)
    assert [group["detached"] for group in groups] == [True] * 8
    missed = await stream_harness.log(10)
    await publish(publisher)
    await stream_harness.redis.flushall()
    await publish(publisher)
    await crm.join()
    await publish(publisher)
    await crm.read()
    assert crm.event_ids >= set(missed)


async def test_group_names_that_cannot_be_stored_are_ignored(
    stream_harness: StreamHarness, publisher: Publisher
) -> None:
    await stream_harness.log(10)
    await publish(publisher)
    for name in (b"\xff\xfe", b"nul\0", b"x" * 5000, "Ünï ☃".encode()):
        await stream_harness.redis.xgroup_create(make_key(StreamName(0, 1)), name, 0, mkstream=True)
    await stream_harness.log(10)
    await publish(publisher)
    assert len(await stream_harness.read()) == 20
    groups = await stream_harness.pool.fetch(sql.stream_group_list)
    assert [group["name"] for group in groups] == ["Ünï ☃"]


@pytest.fixture
async def own_harness(
    cluster: Cluster, redis_client: Redis, settings: Settings
) -> AsyncIterator[StreamHarness]:
    """A harness with its own database: a new generation changes the definition of a table."""
    async with cluster.make_database() as dsn:
        pool = await create_pool(replace(settings, database_url=dsn), "tests")
        yield StreamHarness(pool, redis_client, settings)
        await pool.close()


async def test_a_new_generation_has_new_streams_and_the_same_groups(
    own_harness: StreamHarness,
) -> None:
    stream_harness, publisher = own_harness, own_harness.make_publisher()
    crm = Consumer(stream_harness.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stream_harness.log(40)
    await publish(publisher)
    await crm.read(2)
    await begin_generation(stream_harness.pool)
    await stream_harness.log(40)
    await publish(publisher)
    await stream_harness.redis.flushall()  # both generations must be rebuilt
    await publish(stream_harness.make_publisher())
    assert await stream_harness.redis.get(GENERATION_KEY) == b"2"
    assert len(await stream_harness.read(generation=2)) == 40
    await crm.read()
    crm.generation = 2
    await crm.read()
    assert crm.event_ids == set(stream_harness.logged)
    assert crm.find_gaps() == []


async def test_the_streams_of_an_old_generation_are_dropped_after_they_are_read(
    own_harness: StreamHarness,
) -> None:
    stream_harness, publisher = own_harness, own_harness.make_publisher()
    crm = Consumer(stream_harness.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stream_harness.log(40)
    await publish(publisher)
    await begin_generation(stream_harness.pool)
    await stream_harness.log(40)
    await publish(publisher)
    assert sum((await stream_harness.count()).values()) == 40
    await crm.read()
    await publish(publisher)
    assert sum((await stream_harness.count()).values()) == 0
    assert {row["generation"] for row in await stream_harness.pool.fetch(sql.stream_list)} == {2}
    assert len(await stream_harness.read(generation=2)) == 40


def test_the_last_groups_lag_only_while_others_are_ahead() -> None:
    low, high = EntryId(1, 1), EntryId(2, 2)
    moved_at = {"a": 0.0, "b": 0.0, "c": 9.0}
    assert find_lagging_groups({"a": low, "b": low}, moved_at, 10, 5) == []
    assert find_lagging_groups({"a": low, "b": high}, moved_at, 10, 5) == ["a"]
    assert find_lagging_groups({"c": low, "b": high}, moved_at, 10, 5) == []
    assert find_lagging_groups({}, moved_at, 10, 5) == []
