"""Tells requests that wait for events of their tenant when there are some.

One look at each new window serves all who wait in this process, and a window full of others' events
wakes nobody else. Nobody who waits holds a database connection.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sql
from service.db import DATABASE_AWAY, Pool
from service.logs import get_logger
from service.wakeups import Wakeups

MAX_LISTENERS = 2000
WINDOWS = 64
LOOK_EVERY_S = 0.5
"""Without a wake-up: Redis may be away."""
Owner = tuple[int, bool]
"""tenant, live"""
log = get_logger("feed")


class Feed:
    """The listeners of one process."""

    def __init__(self, pool: Pool, wakeups: Wakeups) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._listeners: defaultdict[Owner, set[asyncio.Event]] = defaultdict(set)
        self._count = 0
        self._wanted = asyncio.Event()
        self._tick: int | None = None
        self.is_closed = False

    @asynccontextmanager
    async def listen(self, owner: Owner) -> AsyncIterator[asyncio.Event | None]:
        """Set whenever there may be new events of the owner; None: do not wait."""
        if self.is_closed or self._count >= MAX_LISTENERS:
            yield None
            return
        event = asyncio.Event()
        self._count += 1
        self._listeners[owner].add(event)
        self._wanted.set()
        try:
            yield event
        finally:
            self._count -= 1
            self._listeners[owner].discard(event)
            if not self._listeners[owner]:
                del self._listeners[owner]

    def close(self) -> None:
        """Nobody waits any more: those who do are woken, those who come are not kept."""
        self.is_closed = True
        self._wake(list(self._listeners))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks for new windows, while anybody listens, until left."""
        task = asyncio.create_task(self._run_forever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run_forever(self) -> None:
        async with self._wakeups.listen("tick") as alarm:
            while True:
                if self._count == 0:
                    self._tick = None
                    self._wanted.clear()
                    await self._wanted.wait()
                try:
                    more = await self._look()
                except DATABASE_AWAY as error:
                    log.warning("feed.interrupted", error=repr(error))
                    self._tick, more = None, False
                if not more:
                    await alarm.wait(LOOK_EVERY_S)

    async def _look(self) -> bool:
        """Wakes whom the next windows concern; whether there may be more of them."""
        if self._tick is None:  # what came before is for each to read
            self._tick = await self._pool.fetchval(sql.ticker_get_tick)
            self._wake(list(self._listeners))
            return True
        rows = await self._pool.fetch(sql.event_list_owners, self._tick, WINDOWS)
        if not rows:
            return False
        self._tick = max(row["tick"] for row in rows)
        self._wake([(row["tenant_id"], row["live"]) for row in rows])
        return True

    def _wake(self, owners: list[Owner]) -> None:
        for owner in owners:
            for event in self._listeners.get(owner, ()):
                event.set()
