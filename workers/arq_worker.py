"""The arq worker, which starts jobs that no process runs and prolongs its own.

This is the only file that uses arq. DECISIONS.md explains why arq starts jobs and does not carry
events.
"""

import asyncio
from contextlib import suppress
from typing import Any, cast

import msgspec
from arq.connections import ArqRedis
from arq.cron import cron
from arq.typing import WorkerCoroutine
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from service.events.redis_ping import (
    CHECK_TIMEOUT_S,
    describe_error,
    describe_outage,
    find_redis_fault,
)
from service.settings import Settings
from service.telemetry.outage_log import OutageLog
from workers.jobs import JOB_S, JobRunner

QUEUE = "leadlog:jobs"
ENQUEUE_SECONDS = set(range(0, 60, 2))
MAX_TRIES = 10**6
"""arq must never give up a job."""
RESTART_S, STABLE_S = 0.5, 2.0


async def run_arq_until(stopping: asyncio.Event, settings: Settings, runner: JobRunner) -> None:
    """Runs an arq worker; starts a new one whenever the loss of Redis has ended the old one."""
    outage_log, url = OutageLog("redis"), settings.require_redis_url()
    while not stopping.is_set():
        worker = make_arq_worker(settings, runner)
        tasks = [
            asyncio.create_task(_end_when(stopping, worker)),
            asyncio.create_task(_report_when_stable(worker, outage_log)),
        ]
        try:
            await worker.main()
        except Exception as error:  # noqa: BLE001  # the watchdog runs the jobs meanwhile
            fault = await find_redis_fault(url) or describe_error(error)
            outage_log.report_away(describe_outage(url, fault))
            with suppress(TimeoutError):
                async with asyncio.timeout(RESTART_S):
                    await stopping.wait()
        finally:
            for task in tasks:
                task.cancel()
            await _close(worker)


def make_arq_worker(settings: Settings, runner: JobRunner) -> Worker:
    """An arq worker with one function, which runs a job by name."""
    encode, decode = msgspec.msgpack.Encoder(enc_hook=str).encode, msgspec.msgpack.decode
    redis = ArqRedis(  # arq leaks a pool that it makes itself if Redis is away at the start
        ConnectionPool.from_url(
            settings.require_redis_url(),
            socket_timeout=CHECK_TIMEOUT_S,  # else arq would wait for a frozen Redis without a word
            socket_connect_timeout=CHECK_TIMEOUT_S,
        ),
        job_serializer=encode,
        job_deserializer=decode,
        default_queue_name=QUEUE,
    )
    run = func(cast(WorkerCoroutine, run_job), timeout=JOB_S + 15, max_tries=MAX_TRIES)
    return Worker(
        functions=[run],
        cron_jobs=[cron(enqueue_all, second=ENQUEUE_SECONDS, timeout=5, run_at_startup=True)],
        after_job_end=enqueue_again,
        ctx={"runner": runner},
        redis_pool=redis,
        job_serializer=encode,
        job_deserializer=decode,
        queue_name=QUEUE,
        max_jobs=len(runner.factories) + 4,
        max_tries=MAX_TRIES,
        poll_delay=0.5,
        health_check_interval=5,
        keep_result=0,
        handle_signals=False,
        log_results=False,
    )


async def run_job(ctx: dict[Any, Any], name: str) -> None:
    """Runs or prolongs a job; see JobRunner.run."""
    await ctx["runner"].run(name, "arq")


async def enqueue_all(ctx: dict[Any, Any]) -> None:
    """Enqueues every job that is due here. A fixed job id prevents duplicates."""
    runner: JobRunner = ctx["runner"]
    for name in runner.factories:
        if runner.is_due(name):
            await ctx["redis"].enqueue_job("run_job", name, _job_id=f"job:{name}")


async def enqueue_again(ctx: dict[Any, Any]) -> None:
    """Enqueues the next run. Raises nothing: an error in an arq hook would end the worker."""
    with suppress(Exception):
        await enqueue_all(ctx)


async def _report_when_stable(worker: Worker, outage_log: OutageLog) -> None:
    """Reports that Redis is back when arq has run for STABLE_S: a failed write would end arq."""
    while True:
        await asyncio.sleep(STABLE_S)
        with suppress(RedisError, OSError):
            await worker.pool.ping()
            outage_log.report_back()
            return


async def _end_when(stopping: asyncio.Event, worker: Worker) -> None:
    """Ends the worker as if it were a burst without jobs, because a cancelled worker leaks."""
    await stopping.wait()
    worker.max_burst_jobs = 0
    worker.burst = True


async def _close(worker: Worker) -> None:
    """Closes everything; arq's own close stops at the first cancelled job."""
    jobs = list(worker.tasks.values())
    worker.tasks.clear()
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    with suppress(Exception):
        await worker.pool.connection_pool.disconnect(inuse_connections=True)
    with suppress(Exception):
        await worker.pool.aclose(close_connection_pool=True)
