"""The publisher under load, while Redis is damaged and publishers are killed at random times."""

import asyncio
import os
import random
import time

import pytest
from redis.asyncio import Redis

from service.events.event_log import SHARDS
from tests.workers.streams.stream_harness import Consumer, StreamHarness, publish
from workers.jobs import CursorMovedError
from workers.streams.positions import StreamName
from workers.streams.redis_streams import make_key

RUN_S = float(os.environ.get("FAULT_RUN_S", "3"))
MIN_EVENTS = 500
SETTLE_S = 30.0
RANDOM = random.Random(2026)  # one sequence for all choices


async def publish_forever(stream_harness: StreamHarness) -> None:
    """Runs a publisher that pauses at random, so that its rival overtakes it."""
    publisher = stream_harness.make_publisher()
    while True:
        try:
            moved = await publisher.once()
        except CursorMovedError:
            continue
        await asyncio.sleep(0.3 if RANDOM.random() < 0.02 else 0 if moved else 0.01)


async def cause_fault(redis: Redis) -> None:
    """Causes one random fault."""
    key = make_key(StreamName(RANDOM.choice(SHARDS), 1))
    number = RANDOM.random()
    if number < 0.3:
        await redis.flushall()
    elif number < 0.5:
        await redis.delete(key)
    elif number < 0.8:
        await redis.xtrim(key, maxlen=RANDOM.choice([0, 0, 3]))
    elif number < 0.9:
        await redis.xadd(key, {"writer": "another program"})
    else:
        await redis.script_flush()


async def cause_faults(stream_harness: StreamHarness) -> None:
    publishers = [asyncio.create_task(publish_forever(stream_harness)) for _ in range(2)]
    try:
        while True:
            await asyncio.sleep(RANDOM.uniform(0.05, 0.4))
            if RANDOM.random() < 0.5:
                await cause_fault(stream_harness.redis)
            else:
                victim = RANDOM.randrange(2)
                publishers[victim].cancel()
                await asyncio.gather(publishers[victim], return_exceptions=True)
                publishers[victim] = asyncio.create_task(publish_forever(stream_harness))
    finally:
        for task in publishers:
            task.cancel()
        await asyncio.gather(*publishers, return_exceptions=True)


async def test_no_event_is_lost_whatever_happens_to_redis_and_publishers(
    stream_harness: StreamHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.publisher.MAINTENANCE_EVERY_S", 0.03)
    await publish(stream_harness.make_publisher())
    crm = Consumer(stream_harness.redis, "crm")
    await crm.join()
    await publish(stream_harness.make_publisher())
    async with asyncio.TaskGroup() as tasks:
        faults = tasks.create_task(cause_faults(stream_harness))
        end = time.monotonic() + RUN_S
        while time.monotonic() < end or len(stream_harness.logged) <= MIN_EVENTS:
            await stream_harness.log(RANDOM.randrange(1, 60))
            await crm.read(RANDOM.choice([5, 1000]), ack=RANDOM.random() < 0.9)
        faults.cancel()
    publisher = stream_harness.make_publisher()
    end = time.monotonic() + SETTLE_S
    while crm.event_ids != set(stream_harness.logged) and time.monotonic() < end:
        await publish(publisher)
        await crm.read()
    assert crm.event_ids == set(stream_harness.logged)
