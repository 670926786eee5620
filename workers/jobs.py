"""Jobs: background work that runs in one process at a time.

An arq job starts a job for JOB_S; while arq or Redis is away, the watchdog does. A lease row in
PostgreSQL gives the right to run the job, Redis wakes it, and a loop calls its `once()`. Redis
therefore decides how soon work is done, not whether it is done.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.database.clock import Clock
from service.database.connect import DATABASE_AWAY, Pool
from service.database.partitions import is_partition_missing, make_missing_partitions
from service.events.wake_ups import Alarm, Topic, Wakeups
from service.settings import Settings
from service.telemetry.logging import get_logger
from service.telemetry.metrics import JOB_FAILURES, JOB_STARTS
from service.telemetry.outage_log import REPEAT_AFTER_S
from workers.leases import RENEW_S, LeaseLostError, Leases
from workers.window_cache import WindowCache

JOB_S = 30.0
"""How long a call of JobRunner.run lasts; then arq calls it again, here or elsewhere."""
OVERLAP_S = 2.0
"""How long a job continues after such a call, so that the next call finds it running."""
BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
AWAY_PAUSE_S = 1.0
log = get_logger("worker")


class Job(Protocol):
    """One kind of background work. Subclasses inherit the defaults."""

    name: str
    topics: tuple[Topic, ...] = ()
    """The wake-ups that end the job's sleep."""

    @property
    def idle_s(self) -> float:
        """The longest sleep when there is nothing to do."""
        ...

    @property
    def is_drained(self) -> bool:
        """If true, the job sleeps for idle_s or until a wake-up, although `once()` did work."""
        return False

    async def once(self) -> int:
        """Does a bounded amount of work. Returns how much; 0 means that the job may sleep."""
        ...

    async def close(self) -> None:
        """Ends background work and stores what is pending; called whenever the job stops."""
        return  # without a statement mypy treats the method as abstract


@dataclass(frozen=True)
class WorkerContext:
    """Resources that live as long as the worker process."""

    settings: Settings
    pool: Pool
    redis: Redis
    wakeups: Wakeups
    owner: str
    """The name of this process in leases."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    clock: Clock = field(default_factory=Clock)

    @cached_property
    def windows(self) -> WindowCache:
        """The newest windows of the log."""
        return WindowCache(self.pool, self.wakeups)


JobFactory = Callable[[WorkerContext], Job]


class CursorMovedError(LeaseLostError):
    """Another process has moved this reader's cursor."""


class JobRunner:
    """Runs the jobs of one process, each at most once at a time and only under its lease."""

    def __init__(self, context: WorkerContext, factories: dict[str, JobFactory]) -> None:
        self._context = context
        self.factories = factories
        self._leases = Leases(context.pool, context.owner)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ends_at: dict[str, float] = {}
        self._reported_at: dict[str, float] = {}

    def is_running(self, name: str) -> bool:
        """Whether this process runs the job or is about to."""
        return name in self._running

    def is_due(self, name: str) -> bool:
        """Whether the job is not running, or JOB_S have passed since the last call of `run`."""
        is_over = time.monotonic() > self._ends_at.get(name, -math.inf) - OVERLAP_S
        return is_over or not self.is_running(name)

    async def run(self, name: str, by: str) -> None:
        """Runs a job for JOB_S. The job continues if arq fails and cancels the caller.

        The job goes on for OVERLAP_S, so that the next call prolongs it without a pause.
        """
        task = self._running.get(name)
        if task is None:
            if self._context.stopping.is_set():
                return
            task = asyncio.create_task(self._run_leased(name, by), name=name)
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))
        self._ends_at[name] = time.monotonic() + JOB_S + OVERLAP_S
        await asyncio.wait({task}, timeout=JOB_S)

    async def stop(self, timeout_s: float) -> None:
        """Lets every job finish its current work; cancels jobs that take longer."""
        self._context.stopping.set()
        self._context.wakeups.wake_all_here()
        tasks = list(self._running.values())
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=timeout_s)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_leased(self, name: str, by: str) -> None:
        context = self._context
        try:
            await self._leases.acquire(name)
        except LeaseLostError:  # another process runs the job
            return
        except Exception as error:  # noqa: BLE001  # mostly one of DATABASE_AWAY
            self._report(name, error)
            with suppress(TimeoutError):  # otherwise arq would start the job again at once
                await asyncio.wait_for(context.stopping.wait(), AWAY_PAUSE_S)
            return
        JOB_STARTS.labels(name, by).inc()
        log.debug("job.started", job=name, by=by)
        try:
            await self._run_until_end(self.factories[name](context))
        except Exception as error:  # noqa: BLE001  # no caller waits for the end of the job
            self._report(name, error)
        finally:
            await self._leases.release(name)

    async def _run_until_end(self, job: Job) -> None:
        backoff_s = BACKOFF_S
        try:
            async with self._context.wakeups.listen(*job.topics) as alarm:
                while not self._is_over(job):
                    try:
                        await self._leases.renew_if_due(job.name)
                        if await job.once() == 0 or job.is_drained:
                            await self._sleep(job, alarm)
                        backoff_s = BACKOFF_S
                    except LeaseLostError as error:
                        log.warning("job.lost", job=job.name, error=repr(error))
                        return
                    except Exception as error:  # noqa: BLE001  # the loop survives any error
                        self._report(job.name, error)
                        await self._repair(error)
                        await asyncio.sleep(backoff_s)
                        backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
        finally:
            await job.close()

    def _is_over(self, job: Job) -> bool:
        return self._context.stopping.is_set() or time.monotonic() > self._ends_at[job.name]

    async def _sleep(self, job: Job, alarm: Alarm) -> None:
        """Sleeps until a wake-up, a stop or the end of the job, and renews the lease meanwhile."""
        until = time.monotonic() + job.idle_s
        while not self._is_over(job) and (left_s := until - time.monotonic()) > 0:
            if await alarm.wait(min(left_s, RENEW_S)):
                return
            await self._leases.renew_if_due(job.name)

    async def _repair(self, error: Exception) -> None:
        """Makes partitions if one was missing."""
        if is_partition_missing(error):
            with suppress(*DATABASE_AWAY):
                await make_missing_partitions(self._context.pool)

    def _report(self, name: str, error: Exception) -> None:
        JOB_FAILURES.labels(name).inc()
        if isinstance(error, (*DATABASE_AWAY, RedisError)):
            # The process logs each outage itself, so each job repeats it only now and then.
            now = time.monotonic()
            if now - self._reported_at.get(name, -math.inf) >= REPEAT_AFTER_S:
                self._reported_at[name] = now
                log.warning("job.failed", job=name, error=repr(error))
        else:
            log.error("job.failed", job=name, exc_info=error)
