"""Long polling of the event feed: wake the requests that wait for events of their tenant.

One query of each new window serves all waiting requests of the process, and wakes only those whose
tenant has events in it. A waiting request holds no database connection.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import sql
from service.database.connect import DATABASE_AWAY, Pool
from service.events.wake_ups import Wakeups
from service.load.keyed_semaphore import KeyedSemaphore
from service.telemetry.logging import get_logger

MAX_LISTENERS = 2000
TENANT_LISTENERS = 200
"""The limit of one tenant, for both modes together, so that other tenants can wait too: each
listener holds a client connection."""
WINDOWS = 64
POLL_S = 0.5
"""The longest pause between two queries: without Redis there are no wake-ups."""
READS_AT_ONCE = 4
"""Long polls of a process that read the log at the same time. An event may wake 2,000 of them."""
Owner = tuple[int, bool]
"""Tenant id and mode."""
log = get_logger("feed")


class LongPollNotifier:
    """Notifies the waiting requests of one process of new events."""

    def __init__(self, pool: Pool, wakeups: Wakeups) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._listeners: defaultdict[Owner, set[asyncio.Event]] = defaultdict(set)
        self._count = 0
        self._has_listeners = asyncio.Event()
        self._tick: int | None = None
        self.is_closed = False
        self._turns = KeyedSemaphore(READS_AT_ONCE)

    def take_turn(self) -> AbstractAsyncContextManager[None]:
        """Wait until fewer than READS_AT_ONCE long polls read; callers take turns."""
        return self._turns.hold("read")

    @asynccontextmanager
    async def listen(self, owner: Owner) -> AsyncIterator[asyncio.Event | None]:
        """Yield an event that is set whenever the owner may have new events; None: do not wait."""
        if self.is_closed or not self._has_room(owner[0]):
            yield None
            return
        event = asyncio.Event()
        self._count += 1
        self._listeners[owner].add(event)
        self._has_listeners.set()
        try:
            yield event
        finally:
            self._count -= 1
            self._listeners[owner].discard(event)
            if not self._listeners[owner]:
                del self._listeners[owner]

    def _has_room(self, tenant: int) -> bool:
        own = sum(len(self._listeners.get((tenant, live), ())) for live in (True, False))
        return own < TENANT_LISTENERS and self._count < MAX_LISTENERS

    def close(self) -> None:
        """Wake all listeners, and accept no more."""
        self.is_closed = True
        self._wake(list(self._listeners))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Query new windows in the background while entered and while there are listeners."""
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
                    self._has_listeners.clear()
                    await self._has_listeners.wait()
                try:
                    more = await self._notify_of_windows()
                except DATABASE_AWAY as error:
                    log.warning("feed.interrupted", error=repr(error))
                    self._tick, more = None, False
                if not more:
                    await alarm.wait(POLL_S)

    async def _notify_of_windows(self) -> bool:
        """Wake the listeners with events in the next windows; True if there may be more windows."""
        if self._tick is None:  # each listener reads the earlier windows by itself
            self._tick = await self._pool.fetchval(sql.tick_get_newest)
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
