"""The watchdog keeps slices going without arq, and without a pause between two of them."""

import asyncio
import time

import pytest
import redis.asyncio

from service.db import Pool
from service.settings import Settings
from service.wakeups import Topic
from tests.workbench import make_workbench
from workers.main import WATCH_S, watch_forever
from workers.slices import Runner, Workshop

SLICE_S = 0.2
TURNS = 4


class Diary:
    """A slice that notes when each of its turns was."""

    name = "ticker"  # a name that leases know
    topics: tuple[Topic, ...] = ()
    idle_s = 0.005
    has_all = False

    def __init__(self, _: Workshop) -> None:
        self.started.append(time.monotonic())

    started: list[float] = []  # noqa: RUF012  # of all that were made

    async def once(self) -> int:
        await asyncio.sleep(0.005)
        return 1

    async def close(self) -> None:
        """Nothing is left running."""


@pytest.fixture
async def shop(committed: Pool, settings: Settings, redis_client: redis.asyncio.Redis) -> Workshop:
    return (await make_workbench(committed, settings, redis_client)).shop


async def test_a_slice_of_the_watchdogs_is_followed_by_the_next_at_once(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.slices.SLICE_S", SLICE_S)
    Diary.started.clear()
    runner = Runner(shop, {"ticker": Diary})
    watchdog = asyncio.create_task(watch_forever(shop.pool, runner))
    async with asyncio.timeout(20):
        while len(Diary.started) < TURNS:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.01)
    await runner.stop(1)
    watchdog.cancel()
    await asyncio.gather(watchdog, return_exceptions=True)
    gaps = [b - a for a, b in zip(Diary.started, Diary.started[1:], strict=False)]
    assert sorted(gaps)[len(gaps) // 2] < SLICE_S + WATCH_S / 2
