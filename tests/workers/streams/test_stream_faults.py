"""The publisher in traffic, with Redis damaged and rivals killed at random the whole time."""

import asyncio
import os
import random
import time

import pytest
from redis.asyncio import Redis

from service.log import SHARDS
from tests.workers.streaming import Consumer, Stage, publish
from workers.reader import CursorMovedError
from workers.streams.places import StreamName
from workers.streams.redis_streams import make_key

RUN_S = float(os.environ.get("FAULT_RUN_S", "3"))
SETTLE_S = 10.0


async def turn_for_ever(stage: Stage) -> None:
    """A publisher that is suspended now and then, so that its rivals overtake it."""
    publisher = stage.make_publisher()
    while True:
        try:
            moved = await publisher.once()
        except CursorMovedError:
            continue
        await asyncio.sleep(0.3 if random.random() < 0.02 else 0 if moved else 0.01)


async def harm(redis: Redis) -> None:
    """One fault at random."""
    key = make_key(StreamName(random.choice(SHARDS), 1))
    chance = random.random()
    if chance < 0.3:
        await redis.flushall()
    elif chance < 0.5:
        await redis.delete(key)
    elif chance < 0.8:
        await redis.xtrim(key, maxlen=random.choice([0, 0, 3]))
    elif chance < 0.9:
        await redis.xadd(key, {"who": "a stranger"})
    else:
        await redis.script_flush()


async def harm_for_ever(stage: Stage) -> None:
    publishers = [asyncio.create_task(turn_for_ever(stage)) for _ in range(2)]
    try:
        while True:
            await asyncio.sleep(random.uniform(0.05, 0.4))
            if random.random() < 0.5:
                await harm(stage.redis)
            else:
                victim = random.randrange(2)
                publishers[victim].cancel()
                await asyncio.gather(publishers[victim], return_exceptions=True)
                publishers[victim] = asyncio.create_task(turn_for_ever(stage))
    finally:
        for task in publishers:
            task.cancel()
        await asyncio.gather(*publishers, return_exceptions=True)


async def test_nothing_is_lost_whatever_happens(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.publisher.TEND_EVERY_S", 0.03)
    await publish(stage.make_publisher())
    crm = Consumer(stage.redis, "crm")
    await crm.join()
    await publish(stage.make_publisher())
    async with asyncio.TaskGroup() as tasks:
        chaos = tasks.create_task(harm_for_ever(stage))
        end = time.monotonic() + RUN_S
        while time.monotonic() < end:
            await stage.log(random.randrange(1, 60))
            await crm.read(random.choice([5, 1000]), ack=random.random() < 0.9)
        chaos.cancel()
    publisher = stage.make_publisher()
    end = time.monotonic() + SETTLE_S
    while crm.event_ids != set(stage.logged) and time.monotonic() < end:
        await publish(publisher)
        await crm.read()
    assert crm.event_ids == set(stage.logged)
    assert len(stage.logged) > 500
