"""Groups that die, leave, return or change generation: bounded streams and no lost event."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

import sql
from service.db import create_pool
from service.log import SHARDS as LOG_SHARDS
from service.settings import Settings
from tests.cluster import Cluster
from tests.workers.streaming import Consumer, Stage, begin_generation, publish
from workers.publisher import Publisher
from workers.streams.places import EntryId, StreamName, find_laggards
from workers.streams.redis_streams import GENERATION_KEY, make_key

pytestmark = pytest.mark.usefixtures("tend_every_turn")


async def test_a_dead_connector_costs_a_bounded_stream_and_no_event(
    stage: Stage, settings: Settings
) -> None:
    stage.settings = replace(settings, stream_max_entries=20)
    publisher, dead = stage.make_publisher(), Consumer(stage.redis, "dead")
    await publish(publisher)
    await dead.join()
    for _ in range(30):
        await stage.log(20)
        await publish(publisher)
    lengths = await stage.count()
    assert max(lengths.values()) < 20 + 20
    assert sum(lengths.values()) < len(stage.logged) / 2
    while await dead.read(10):
        await publish(publisher)
    assert len(dead.told) == len(stage.logged)
    assert dead.event_ids == set(stage.logged)
    assert dead.find_gaps() == []
    assert sum((await stage.count()).values()) == 0


async def test_without_a_group_a_stream_keeps_its_newest_entries(
    stage: Stage, settings: Settings
) -> None:
    stage.settings = replace(settings, stream_max_entries=20)
    publisher = stage.make_publisher()
    for _ in range(30):
        await stage.log(20)
    await publish(publisher)
    assert set((await stage.count()).values()) <= {0, 20}
    last = {told.lead_id: told.version for told in await stage.read()}
    assert last == stage.versions


async def test_a_group_that_stands_still_is_parked_and_gets_all_when_it_returns(
    stage: Stage, settings: Settings
) -> None:
    stage.settings = replace(settings, stream_max_entries=20, stream_group_patience_s=1e-6)
    publisher = stage.make_publisher()
    live, dead = Consumer(stage.redis, "live"), Consumer(stage.redis, "dead")
    await publish(publisher)
    await live.join()
    await dead.join()
    for _ in range(30):
        await stage.log(20)
        await publish(publisher)
        await live.read()
    await publish(publisher)
    await live.read()
    assert live.event_ids == set(stage.logged)
    stage.settings = settings  # nobody is parked from now on
    publisher = stage.make_publisher()
    await dead.join()
    for _ in range(3):
        await publish(publisher)
        await dead.read()
        await live.read()
    assert dead.event_ids == set(stage.logged)
    assert dead.find_gaps() == []


async def test_a_group_that_somebody_removes_holds_nothing_up_and_may_return(
    stage: Stage, publisher: Publisher
) -> None:
    crm = Consumer(stage.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stage.log(10)
    await publish(publisher)
    for shard in LOG_SHARDS:
        await stage.redis.xgroup_destroy(make_key(StreamName(shard, 1)), "crm")
    await publish(publisher)
    groups = await stage.pool.fetch(sql.stream_group_list)
    assert [group["parked"] for group in groups] == [True] * 8
    missed = await stage.log(10)
    await publish(publisher)
    await stage.redis.flushall()
    await publish(publisher)
    await crm.join()
    await publish(publisher)
    await crm.read()
    assert crm.event_ids >= set(missed)


async def test_groups_with_odd_names_do_no_harm(stage: Stage, publisher: Publisher) -> None:
    await stage.log(10)
    await publish(publisher)
    for name in (b"\xff\xfe", b"nul\0", b"x" * 5000, "Ünï ☃".encode()):
        await stage.redis.xgroup_create(make_key(StreamName(0, 1)), name, 0, mkstream=True)
    await stage.log(10)
    await publish(publisher)
    assert len(await stage.read()) == 20
    groups = await stage.pool.fetch(sql.stream_group_list)
    assert [group["name"] for group in groups] == ["Ünï ☃"]


@pytest.fixture
async def own_stage(
    cluster: Cluster, redis_client: Redis, settings: Settings
) -> AsyncIterator[Stage]:
    """In a database of its own, for a generation changes how a table is made."""
    async with cluster.make_database() as dsn:
        pool = await create_pool(replace(settings, database_url=dsn), "tests")
        yield Stage(pool, redis_client, settings)
        await pool.close()


async def test_a_new_generation_has_new_streams_and_the_same_groups(own_stage: Stage) -> None:
    stage, publisher = own_stage, own_stage.make_publisher()
    crm = Consumer(stage.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stage.log(40)
    await publish(publisher)
    await crm.read(2)
    await begin_generation(stage.pool)
    await stage.log(40)
    await publish(publisher)
    await stage.redis.flushall()  # both generations are to be built anew
    await publish(stage.make_publisher())
    assert await stage.redis.get(GENERATION_KEY) == b"2"
    assert len(await stage.read(generation=2)) == 40
    await crm.read()
    crm.generation = 2
    await crm.read()
    assert crm.event_ids == set(stage.logged)
    assert crm.find_gaps() == []


async def test_the_streams_of_an_old_generation_go_when_they_are_read(own_stage: Stage) -> None:
    stage, publisher = own_stage, own_stage.make_publisher()
    crm = Consumer(stage.redis, "crm")
    await publish(publisher)
    await crm.join()
    await stage.log(40)
    await publish(publisher)
    await begin_generation(stage.pool)
    await stage.log(40)
    await publish(publisher)
    assert sum((await stage.count()).values()) == 40
    await crm.read()
    await publish(publisher)
    assert sum((await stage.count()).values()) == 0
    assert {row["generation"] for row in await stage.pool.fetch(sql.stream_list)} == {2}
    assert len(await stage.read(generation=2)) == 40


def test_the_last_groups_are_laggards_only_while_others_are_ahead() -> None:
    low, high = EntryId(1, 1), EntryId(2, 2)
    moved_at = {"a": 0.0, "b": 0.0, "c": 9.0}
    assert find_laggards({"a": low, "b": low}, moved_at, 10, 5) == []
    assert find_laggards({"a": low, "b": high}, moved_at, 10, 5) == ["a"]
    assert find_laggards({"c": low, "b": high}, moved_at, 10, 5) == []
    assert find_laggards({}, moved_at, 10, 5) == []
