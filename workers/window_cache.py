"""The newest windows of the log: one query and one decoding serve all readers of the process.

A window never changes, so readers may share it. A reader that is behind queries the log itself.
"""

import asyncio
import time

from service.database.connect import Pool
from service.events.event_log import Cursor, Window, read_windows
from service.events.wake_ups import Wakeups

MAX_WINDOWS = 64
"""The limit of windows in one query, and of windows kept."""
MAX_EVENTS = 2000
"""The limit of events in one query."""
READ_AHEAD = 20_000
"""The limit of events in a query that continues a large window, as after an outage of the ticker.
It is high because each such query sorts the whole window."""
KEPT_S = 1.0
"""No window is kept for longer: after a failover the log may be another one."""


class WindowCache:
    """Reads windows for the readers of one process."""

    def __init__(self, pool: Pool, wakeups: Wakeups) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._lock = asyncio.Lock()
        self._windows: dict[int, Window] = {}
        """Complete windows by tick, without gaps."""
        self._begun_at = 0.0
        """When the oldest kept window was read, or earlier."""
        self._newest = 0
        self._is_at_end = False
        self._wakeups_before = 0
        """The count of "tick" wake-ups when the last query began."""

    async def read(self, cursor: Cursor) -> list[Window]:
        """The next windows after a cursor; empty if no newer tick has been cut.

        Only the last window may be incomplete. Raises CursorTooOldError.
        """
        if cursor.event_id:
            return await self._query(cursor, READ_AHEAD, 1)
        if found := self._find(cursor):
            return found
        if cursor.tick < self._newest:  # behind: do not replace what the other readers need
            return await self._query(cursor, MAX_EVENTS, MAX_WINDOWS)
        async with self._lock:
            return self._find(cursor) or await self._read_on(cursor)

    def is_end(self, cursor: Cursor) -> bool:
        """Whether the last query of any reader ended here, and no wake-up came since."""
        is_current = self._wakeups.count("tick") == self._wakeups_before
        return is_current and self._is_at_end and cursor == Cursor(self._newest)

    def clear(self) -> None:
        """Forgets all windows."""
        self._windows.clear()
        self._newest = 0
        self._is_at_end = False

    def _find(self, cursor: Cursor) -> list[Window]:
        """The kept windows after a cursor."""
        if time.monotonic() - self._begun_at > KEPT_S:
            self.clear()
        if cursor.tick + 1 not in self._windows:
            return []
        return [window for tick, window in self._windows.items() if tick > cursor.tick]

    async def _read_on(self, cursor: Cursor) -> list[Window]:
        """Reads the windows after the kept ones, and keeps them."""
        wakeups_before = self._wakeups.count("tick")
        windows = await self._query(cursor, MAX_EVENTS, MAX_WINDOWS)
        complete = [window for window in windows if not window.after.event_id]
        if cursor.tick != self._newest or not self._windows:
            self._windows.clear()
            self._begun_at = time.monotonic()
        self._windows |= {window.tick: window for window in complete}
        for tick in list(self._windows)[:-MAX_WINDOWS]:
            del self._windows[tick]
        self._newest = complete[-1].tick if complete else cursor.tick
        rows = sum(len(window.events) or 1 for window in windows)
        self._is_at_end = len(windows) < MAX_WINDOWS and rows < MAX_EVENTS
        self._wakeups_before = wakeups_before
        return windows

    async def _query(self, cursor: Cursor, events: int, windows: int) -> list[Window]:
        try:
            async with self._pool.acquire() as conn:
                return await read_windows(conn, cursor, events, windows)
        except BaseException:
            self.clear()
            raise
