"""The worker process: runs the jobs by arq, and by a watchdog while arq or Redis is away."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop
from redis.asyncio import Redis

import sql
from service.database.clock import compare_forever
from service.database.connect import DATABASE_AWAY, Connector, Pool, create_pool
from service.database.database_watch import DatabaseWatch
from service.events.wake_ups import Wakeups
from service.http.server.protocol import make_protocol
from service.settings import Settings
from service.telemetry.logging import get_logger
from service.telemetry.metrics_server import MetricsPage, serving_metrics
from workers.arq_worker import run_arq_until
from workers.jobs import JobRunner, WorkerContext
from workers.registry import make_factories

WATCH_S = 0.5
STOP_S = 8.0
ARQ_STOP_S = 1.0
log = get_logger("worker")


def main(settings: Settings) -> int:
    """Runs until SIGINT or SIGTERM. Returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work_until_stopped(settings))
    return 0


async def work_until_stopped(settings: Settings) -> None:
    """Runs the jobs until a signal asks to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    metrics = serving_metrics(MetricsPage(), settings, make_protocol)
    async with metrics, watch_database(settings, stop) as is_usable:
        if is_usable:
            async with work(settings):
                log.info("worker.started", pid=os.getpid())
                await stop.wait()
    log.info("worker.stopped", pid=os.getpid())


@asynccontextmanager
async def watch_database(settings: Settings, stop: asyncio.Event) -> AsyncIterator[bool]:
    """Yields True once the database is usable, False if `stop` is set before; logs outages."""
    watch = DatabaseWatch(settings, Connector())
    usable = asyncio.create_task(watch.wait_until_usable())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({usable, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in (usable, stopped):
        task.cancel()
    results = await asyncio.gather(usable, stopped, return_exceptions=True)
    async with watch.running():
        yield results[0] is None


@asynccontextmanager
async def work(settings: Settings) -> AsyncIterator[JobRunner]:
    """Runs the jobs in the context; at its end each job finishes its current work."""
    redis = Redis.from_url(settings.require_redis_url())
    async with await create_pool(settings, "leadlog-worker", settings.db_pool_size + 4) as pool:
        wakeups = Wakeups(redis)
        owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        context = WorkerContext(settings, pool, redis, wakeups, owner)
        runner = JobRunner(context, make_factories(settings))
        async with wakeups.running(listening=True):
            stopping = asyncio.Event()
            arq = asyncio.create_task(run_arq_until(stopping, settings, runner), name="arq")
            watchdog = asyncio.create_task(watch_forever(pool, runner), name="watchdog")
            comparing = asyncio.create_task(compare_forever(context.clock, pool), name="clock")
            try:
                yield runner
            finally:
                await runner.stop(STOP_S)
                stopping.set()
                watchdog.cancel()
                comparing.cancel()
                await asyncio.wait([arq], timeout=ARQ_STOP_S)
                arq.cancel()
                await asyncio.gather(arq, watchdog, comparing, return_exceptions=True)
    await redis.aclose()


async def watch_forever(pool: Pool, runner: JobRunner) -> None:
    """Runs, or prolongs, each job that is due at two successive checks: Redis may be away.

    A job that the watchdog ran counts as idle as soon as its time is over: for a minute arq may
    believe that a killed process still runs the job.
    """
    idle: set[str] = set()
    started: set[asyncio.Task[None]] = set()
    while True:
        now_idle = {name for name in runner.factories if runner.is_due(name)}
        if not all(runner.is_running(name) for name in now_idle):
            leased = await _list_leased(pool, runner)
            now_idle = {name for name in now_idle if runner.is_running(name) or name not in leased}
        for name in now_idle & idle:
            started.add(asyncio.create_task(runner.run(name, "watchdog"), name=name))
        idle = now_idle | await _wait_for_end(started)


async def _list_leased(pool: Pool, runner: JobRunner) -> set[str]:
    """The jobs that some process runs; all of them if the database is away."""
    try:
        return {row["name"] for row in await pool.fetch(sql.lease_list_live)}
    except DATABASE_AWAY:
        return set(runner.factories)  # without the database no lease can be acquired


async def _wait_for_end(started: set[asyncio.Task[None]]) -> set[str]:
    """Waits until a job ends, at most WATCH_S. Returns the names of ended jobs."""
    if not started:
        await asyncio.sleep(WATCH_S)
        return set()
    ended, _ = await asyncio.wait(started, timeout=WATCH_S, return_when=asyncio.FIRST_COMPLETED)
    started -= ended
    return {task.get_name() for task in ended}
