"""Without arq the watchdog runs the jobs, and prolongs a job whose time is over."""

import asyncio
import itertools
import time

import pytest
import redis.asyncio

from service.database.connect import Pool
from service.settings import Settings
from tests.harness.worker_harness import make_worker_harness
from workers.jobs import Job, JobRunner, WorkerContext
from workers.main import watch_forever

RUN_S = 3.0


class RecordingJob(Job):
    """A job that records its rounds."""

    name = "ticker"  # a lease must exist under this name
    idle_s = 0.005

    def __init__(self, _: WorkerContext) -> None:
        pass

    rounds: list[float] = []  # noqa: RUF012  # shared by all instances

    async def once(self) -> int:
        self.rounds.append(time.monotonic())
        await asyncio.sleep(0.005)
        return 1


@pytest.fixture
async def context(
    committed: Pool, settings: Settings, redis_client: redis.asyncio.Redis
) -> WorkerContext:
    return (await make_worker_harness(committed, settings, redis_client)).context


async def test_the_watchdog_prolongs_a_job_without_a_pause(
    context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.jobs.JOB_S", 0.2)
    RecordingJob.rounds.clear()
    runner = JobRunner(context, {"ticker": RecordingJob})
    watchdog = asyncio.create_task(watch_forever(context.pool, runner))
    async with asyncio.timeout(20):
        while not RecordingJob.rounds or time.monotonic() < RecordingJob.rounds[0] + RUN_S:  # noqa: ASYNC110  # a list announces no change
            await asyncio.sleep(0.01)
    await runner.stop(1)
    watchdog.cancel()
    await asyncio.gather(watchdog, return_exceptions=True)
    rounds = RecordingJob.rounds
    assert rounds[-1] - rounds[0] > RUN_S - 0.5
    assert max(b - a for a, b in itertools.pairwise(rounds)) < 0.5
