"""Cuts the log into windows: one tick whenever new events have become visible.

The docstring of service/events/event_log.py explains ticks.
"""

import asyncio
import random
import time

from redis.exceptions import RedisError

import sql
from service.events.wake_ups import Topic
from service.telemetry.logging import get_logger
from service.telemetry.metrics import TICKS
from workers.jobs import Job, WorkerContext
from workers.streams.restore_detection import (
    NO_POSITION,
    LogPosition,
    NewestPosition,
    reserve_generation,
)

PAUSE_S = 0.025
"""The pause between two ticks of a busy log: longer gives fuller batches, shorter less lag."""
CHECK_EVERY_S = 1.0
"""The time between two checks for a restored database, which also read the newest tick."""
UNSEEN_GENERATIONS = range(100, 400)
"""Without Redis, a restored log skips a random number of generations, so that two restores of one
dump do not begin the same generation."""
RESTORED = (
    "The database was restored, promoted or moved. Events that no reader had seen are read again, "
    "and cursors from after the restored state are refused."
)
log = get_logger("ticker")


class Ticker(Job):
    """Cuts at most one tick at a time."""

    name = "ticker"
    topics: tuple[Topic, ...] = ("event",)
    is_drained = True  # a captured lead wakes it; events of webhooks wait up to CHECK_EVERY_S

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._newest_position = NewestPosition(context.redis)
        self._is_position_read = False
        """Whether the stored position was read. Before that it may be newer, so it is kept."""
        self._tick: int | None = None
        self._checked_at = 0.0

    @property
    def idle_s(self) -> float:
        return min(self._context.wakeups.poll_s, CHECK_EVERY_S)

    async def once(self) -> int:
        """Cuts a tick if there are new events. Returns the number of ticks."""
        if self._tick is None or time.monotonic() - self._checked_at > CHECK_EVERY_S:
            self._tick = await self._check()
            self._checked_at = time.monotonic()
        tick = await self._context.pool.fetchval(sql.ticker_cut, self._tick)
        if tick is None:  # nothing new, or another process cut it
            return 0
        self._tick = tick
        TICKS.inc()
        self._context.wakeups.notify("tick")
        await asyncio.sleep(PAUSE_S)
        return 1

    async def _check(self) -> int:
        """The newest tick. Begins a new generation if the database was restored."""
        pool = self._context.pool
        # If this check fails, the next one is a first check: the database may be restored by then.
        is_first, self._tick = self._tick is None, None
        known = NO_POSITION
        row = await pool.fetchrow(sql.log_check, *_to_arguments(known))
        if is_first or not self._is_position_read:
            stored = await self._newest_position.read(row["home"])
            self._is_position_read, known = stored is not None, stored or NO_POSITION
            row = await pool.fetchrow(sql.log_check, *_to_arguments(known))
        if row["is_restored"]:
            unused = await self._find_unused_generation(max(known.generation, row["generation"]))
            await pool.execute(sql.log_begin_generation_if_restored, unused, *_to_arguments(known))
            log.warning("generation.begun", reason=RESTORED)
            row = await pool.fetchrow(sql.log_check, *_to_arguments(NO_POSITION))
        if self._is_position_read:
            position = LogPosition(row["generation"], row["tick"])
            await self._newest_position.write(row["home"], position)
        return int(row["tick"])

    async def _find_unused_generation(self, newest: int) -> int:
        """A generation that no log has used with this Redis; `newest`: the newest known one."""
        try:
            return await reserve_generation(self._context.redis, newest)
        except (RedisError, OSError):
            return newest + random.choice(UNSEEN_GENERATIONS)  # noqa: S311  # no secret


def _to_arguments(position: LogPosition) -> tuple[int, int]:
    return position.generation, position.tick
