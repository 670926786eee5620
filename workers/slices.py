"""A slice is a piece of background work that one process at a time does for a while.

It is started by an arq job (or by the watchdog when arq or Redis is away), owned by a lease row in
PostgreSQL, woken by Redis, and driven by its `once()`. So Redis decides how soon, never whether.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

import sql
from service.db import DATABASE_AWAY, Pool
from service.logs import get_logger
from service.metrics import SLICE_FAILURES, SLICE_STARTS
from service.settings import Settings
from service.wakeups import Alarm, Topic, Wakeups

SLICE_S = 30.0
"""How long a slice runs before arq may give it to another process."""
LEASE_S = 5.0
RENEW_S = 1.5
BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
AWAY_PAUSE_S = 1.0
log = get_logger("worker")


class Slice(Protocol):
    """An actor: a name, what wakes it, how long it sleeps unwoken, and one turn of its work."""

    name: str
    topics: tuple[Topic, ...]
    idle_s: float

    @property
    def has_all(self) -> bool:
        """Whether the last turn left nothing that is not announced: no need to look again now."""
        ...

    async def once(self) -> int:
        """Does what there is to do, up to a bound; how much that was (0: nothing, may sleep)."""
        ...

    async def close(self) -> None:
        """Ends what `once()` left running; called when the slice stops, whatever the reason."""
        ...


@dataclass(frozen=True)
class Workshop:
    """What lives as long as the worker process."""

    settings: Settings
    pool: Pool
    redis: Redis
    wakeups: Wakeups
    owner: str
    """Names this process in leases."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


SliceFactory = Callable[[Workshop], Slice]


class LeaseLostError(Exception):
    """Another process runs this slice now: what we were about to do is its business."""


class Lease:
    """The right to run a slice, for LEASE_S at a time."""

    def __init__(self, shop: Workshop, name: str) -> None:
        self._shop = shop
        self._name = name
        self._taken_at = -math.inf

    async def take(self) -> None:
        """Takes or renews it. Raises LeaseLostError."""
        now = time.monotonic()  # before the statement: it expires no earlier than we think
        owner = self._shop.owner
        if await self._shop.pool.fetchval(sql.lease_take, self._name, owner, LEASE_S) is None:
            raise LeaseLostError(self._name)
        self._taken_at = now

    async def renew_if_due(self) -> None:
        """Renews it every RENEW_S. Raises LeaseLostError."""
        if time.monotonic() - self._taken_at > RENEW_S:
            await self.take()

    async def release(self) -> None:
        """Gives it back, so that another need not wait until it expires."""
        with suppress(*DATABASE_AWAY):  # it expires by itself
            await self._shop.pool.execute(sql.lease_release, self._name, self._shop.owner)


class Runner:
    """Runs the slices of one process: each at most once here, and only under its lease."""

    def __init__(self, shop: Workshop, factories: dict[str, SliceFactory]) -> None:
        self._shop = shop
        self.factories = factories
        self._running: dict[str, asyncio.Task[None]] = {}

    def is_running(self, name: str) -> bool:
        """Whether this process runs (or is about to run) the slice."""
        return name in self._running

    async def run(self, name: str, by: str) -> None:
        """Runs a slice to its end. Giving up the wait does not end the slice: arq may die."""
        task = self._running.get(name)
        if task is None:
            if self._shop.stopping.is_set():
                return
            task = asyncio.create_task(self._run_leased(name, by), name=name)
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))
        await asyncio.shield(task)

    async def stop(self, timeout_s: float) -> None:
        """Lets every slice finish its turn; cancels what takes longer."""
        self._shop.stopping.set()
        self._shop.wakeups.wake_all_here()
        tasks = list(self._running.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_leased(self, name: str, by: str) -> None:
        shop, lease = self._shop, Lease(self._shop, name)
        try:
            await lease.take()
        except LeaseLostError:  # another process has it
            return
        except DATABASE_AWAY as error:
            self._report(name, error)
            with suppress(TimeoutError):  # arq would start it again at once
                await asyncio.wait_for(shop.stopping.wait(), AWAY_PAUSE_S)
            return
        SLICE_STARTS.labels(name, by).inc()
        log.debug("slice.started", slice=name, by=by)
        try:
            await self._drive(self.factories[name](shop), lease)
        finally:
            await lease.release()

    async def _drive(self, piece: Slice, lease: Lease) -> None:
        end = time.monotonic() + SLICE_S
        backoff_s = BACKOFF_S
        try:
            async with self._shop.wakeups.listen(*piece.topics) as alarm:
                while not self._shop.stopping.is_set() and time.monotonic() < end:
                    try:
                        await lease.renew_if_due()
                        if await piece.once() == 0 or piece.has_all:
                            await self._rest(piece.idle_s, alarm, lease)
                        backoff_s = BACKOFF_S
                    except LeaseLostError as error:
                        log.warning("slice.lost", slice=piece.name, error=repr(error))
                        return
                    except Exception as error:  # noqa: BLE001  # the loop survives: wait, go on
                        self._report(piece.name, error)
                        await asyncio.sleep(backoff_s)
                        backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
        finally:
            await piece.close()

    async def _rest(self, idle_s: float, alarm: Alarm, lease: Lease) -> None:
        """Sleeps until woken or asked to stop, and stays the holder of the lease meanwhile."""
        until = time.monotonic() + idle_s
        while not self._shop.stopping.is_set() and (left_s := until - time.monotonic()) > 0:
            if await alarm.wait(min(left_s, RENEW_S)):
                return
            await lease.renew_if_due()

    @staticmethod
    def _report(name: str, error: Exception) -> None:
        SLICE_FAILURES.labels(name).inc()
        if isinstance(error, (*DATABASE_AWAY, RedisError)):
            log.warning("slice.failed", slice=name, error=repr(error))
        else:
            log.error("slice.failed", slice=name, exc_info=error)
