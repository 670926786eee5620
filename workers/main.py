"""The worker process: slices as arq jobs, and a watchdog that does without arq when it must.

The only file that knows arq. Its traps, and why it carries slices and not events, are in
DECISIONS.md.
"""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import msgspec
import uvloop
from arq.connections import ArqRedis
from arq.cron import cron
from arq.typing import WorkerCoroutine
from arq.worker import Worker, func
from prometheus_client import start_http_server
from redis.asyncio import ConnectionPool, Redis

import sql
from service.db import DATABASE_AWAY, create_pool
from service.logs import get_logger, set_up_logging
from service.settings import Settings
from service.wakeups import Wakeups
from workers.roster import make_factories
from workers.slices import SLICE_S, Runner, Workshop

QUEUE = "leadlog:slices"
WATCH_S = 0.5
SWEEP_SECONDS = set(range(0, 60, 2))
STOP_S = 8.0
ARQ_STOP_S = 1.0
RESTART_S = 0.5
log = get_logger("worker")


def main(settings: Settings) -> int:
    """Runs until SIGINT or SIGTERM; the exit code."""
    set_up_logging(settings)
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, settings.host)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work_until_stopped(settings))
    return 0


async def work_until_stopped(settings: Settings) -> None:
    """Runs the slices until a signal asks to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with work(settings):
        log.info("worker.started", pid=os.getpid())
        await stop.wait()
    log.info("worker.stopped", pid=os.getpid())


@asynccontextmanager
async def work(settings: Settings) -> AsyncIterator[Runner]:
    """The slices run while this is entered; leaving lets each finish its turn."""
    redis = Redis.from_url(settings.require_redis_url())
    async with await create_pool(settings, "leadlog-worker", settings.db_pool_size + 4) as pool:
        wakeups = Wakeups(redis)
        owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        runner = Runner(Workshop(settings, pool, redis, wakeups, owner), make_factories(settings))
        async with wakeups.running(listening=True):
            stopping = asyncio.Event()
            arq = asyncio.create_task(run_arq_until(stopping, settings, runner), name="arq")
            watchdog = asyncio.create_task(watch_forever(pool, runner), name="watchdog")
            try:
                yield runner
            finally:
                await runner.stop(STOP_S)
                stopping.set()
                watchdog.cancel()
                await asyncio.wait([arq], timeout=ARQ_STOP_S)
                arq.cancel()
                await asyncio.gather(arq, watchdog, return_exceptions=True)
    await redis.aclose()


async def watch_forever(pool: Any, runner: Runner) -> None:
    """Runs whatever slice nobody has run for two looks: Redis and arq may be away.

    One that it has run is looked at again as soon as it ends: arq may believe for a minute that a
    process which was killed is still running it.
    """
    idle: set[str] = set()
    started: set[asyncio.Task[None]] = set()
    while True:
        try:
            live = {row["name"] for row in await pool.fetch(sql.lease_list_live)}
        except DATABASE_AWAY:
            live = set(runner.factories)  # no lease can be taken now anyway
        now_idle = {
            name for name in runner.factories if name not in live and not runner.is_running(name)
        }
        for name in now_idle & idle:
            started.add(asyncio.create_task(runner.run(name, "watchdog"), name=name))
        idle = now_idle | await _wait_for_end(started)


async def _wait_for_end(started: set[asyncio.Task[None]]) -> set[str]:
    """Waits until a slice ends, WATCH_S at most; the names of those that have."""
    if not started:
        await asyncio.sleep(WATCH_S)
        return set()
    ended, _ = await asyncio.wait(started, timeout=WATCH_S, return_when=asyncio.FIRST_COMPLETED)
    started -= ended
    return {task.get_name() for task in ended}


async def run_arq_until(stopping: asyncio.Event, settings: Settings, runner: Runner) -> None:
    """Keeps an arq worker going; a lost Redis ends it, so it is made anew until it stays."""
    while not stopping.is_set():
        worker = make_arq_worker(settings, runner)
        ender = asyncio.create_task(_end_arq_when(stopping, worker))
        try:
            await worker.main()
        except Exception as error:  # noqa: BLE001  # the watchdog works on meanwhile
            log.warning("arq.failed", error=repr(error))
            await asyncio.sleep(RESTART_S)
        finally:
            ender.cancel()
            await _close_arq(worker)


async def _end_arq_when(stopping: asyncio.Event, worker: Worker) -> None:
    """Lets the worker return by itself, as a burst of no jobs does: a cancelled one leaks."""
    await stopping.wait()
    worker.max_burst_jobs = 0
    worker.burst = True


async def _close_arq(worker: Worker) -> None:
    """Arq's own close stops at the first cancelled job and leaves connections open."""
    jobs = list(worker.tasks.values())
    worker.tasks.clear()
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    with suppress(Exception):
        await worker.pool.connection_pool.disconnect(inuse_connections=True)
    with suppress(Exception):
        await worker.pool.aclose(close_connection_pool=True)


def make_arq_worker(settings: Settings, runner: Runner) -> Worker:
    """An arq worker whose one function is to run a slice."""

    async def run_slice(_: dict[Any, Any], name: str) -> None:
        with suppress(TimeoutError):  # one that rests for long goes on without its job
            async with asyncio.timeout(SLICE_S + 10):
                await runner.run(name, "arq")

    async def sweep(ctx: dict[Any, Any]) -> None:
        await enqueue_all(ctx["redis"], runner)

    async def enqueue_again(ctx: dict[Any, Any]) -> None:
        with suppress(Exception):  # a hook that raises would end the worker
            await enqueue_all(ctx["redis"], runner)

    serializer = msgspec.msgpack.Encoder(enc_hook=str).encode
    pool = ArqRedis(  # not arq's own, which it loses when Redis is away at the start
        ConnectionPool.from_url(settings.require_redis_url()),
        job_serializer=serializer,
        job_deserializer=msgspec.msgpack.decode,
        default_queue_name=QUEUE,
    )
    return Worker(
        redis_pool=pool,
        functions=[
            func(
                cast(WorkerCoroutine, run_slice),
                name="run_slice",
                timeout=SLICE_S + 15,
                max_tries=10**6,
            )
        ],
        cron_jobs=[cron(sweep, second=SWEEP_SECONDS, timeout=5, run_at_startup=True)],
        queue_name=QUEUE,
        after_job_end=enqueue_again,
        handle_signals=False,
        keep_result=0,
        max_tries=10**6,
        max_jobs=len(runner.factories) + 4,
        poll_delay=0.05,
        health_check_interval=5,
        job_serializer=serializer,
        job_deserializer=msgspec.msgpack.decode,
        log_results=False,
    )


async def enqueue_all(redis: ArqRedis, runner: Runner) -> None:
    """Offers every slice that is not running here; the fixed job id keeps it to one offer."""
    for name in runner.factories:
        if not runner.is_running(name):
            await redis.enqueue_job("run_slice", name, _job_id=f"slice:{name}", _queue_name=QUEUE)
