"""asyncpg's pool, with a line in front of it that is short, fair and refuses in time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from service.line import Line

ACQUIRE_TIMEOUT_S = 3.0
IDLE_S = 60.0
Result = TypeVar("Result")
AtHand: TypeAlias = PoolConnectionProxy | None
"""A connection; None is the right to have one of asyncpg's."""


class BoundedPool(asyncpg.Pool):
    """A pool that waits a bounded time for a free connection, and for one that is given back.

    The latter is for a frozen server: asyncpg would wait for it to take note of a cancelled
    statement. The connection is then cut.

    A connection that has answered well goes straight to who has waited longest; if nobody waits, it
    is kept at hand. Giving it back to asyncpg and taking it again is a task and 100 µs, as long as
    ten reads (py-spy), and four turns of the loop, in which a busy process sends no statement.
    """

    line: Line[AtHand]
    """asyncpg's own queue lets who comes just then pass those who wait."""
    kept: list[tuple[PoolConnectionProxy, float]]
    """Each with the time since when nobody has used it, the longest first."""
    taken: int
    """Connections that somebody has, awaits from asyncpg or that are kept; at most as many as the
    pool may have, so whoever is given None finds one free."""

    def open_line(self, limit_s: float) -> None:
        """To be called once. Who would wait longer than `limit_s` is refused."""
        self.line = Line("pool", self._pass_on, limit_s)
        self.kept = []
        self.taken = 0

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's own, like the next three."""
        return await self._use(lambda conn: conn.fetch(query, *args, **options))

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._use(lambda conn: conn.fetchrow(query, *args, **options))

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._use(lambda conn: conn.fetchval(query, *args, **options))

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        return await self._use(lambda conn: conn.execute(query, *args, **options))

    async def _use(self, ask: Callable[[PoolConnectionProxy], Awaitable[Result]]) -> Result:
        conn = await self._acquire(None)
        try:
            answer = await ask(conn)
        except BaseException:
            await self.release(conn)
            raise
        if self.is_closing():
            await self.release(conn)
        else:
            self._pass_on(conn)
        return answer

    def _end_idle(self) -> None:
        """Ends connections that have been of no use: what is idle for long may be cut unseen."""
        while self.kept and self.kept[0][1] < time.monotonic() - IDLE_S:
            conn, _ = self.kept.pop(0)
            if _is_open(conn):
                conn.terminate()
            self._pass_on(None)

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109  # as asyncpg's own
        self._end_idle()
        conn = await self._take(ACQUIRE_TIMEOUT_S if timeout is None else timeout)
        if conn is not None and _is_open(conn):
            return conn
        try:
            if conn is not None:
                await super().release(conn)
            return await super()._acquire(timeout)  # type: ignore[misc]  # not in the stubs
        except BaseException:
            self._pass_on(None)
            raise

    async def _take(self, bound_s: float) -> AtHand:
        if self.kept:
            return self.kept.pop()[0]
        if self.taken < self.get_max_size():
            self.taken += 1
            return None
        async with asyncio.timeout(bound_s):
            return await self.line.wait()

    def _pass_on(self, conn: AtHand) -> None:
        if self.line.give(conn):
            return
        if conn is None:
            self.taken -= 1
        else:
            self.kept.append((conn, time.monotonic()))

    async def release(
        self,
        connection: PoolConnectionProxy,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # as asyncpg's own
    ) -> None:
        """Gives a connection back."""
        try:
            bound_s = ACQUIRE_TIMEOUT_S if timeout is None else timeout
            await super().release(connection, timeout=bound_s)
        finally:
            self._pass_on(None)

    async def close(self) -> None:
        """As asyncpg's own."""
        try:
            while self.kept:
                await self.release(self.kept.pop()[0])
            await super().close()
        except BaseException:
            self.terminate()
            raise


def _is_open(conn: PoolConnectionProxy) -> bool:
    try:
        return not conn.is_closed()
    except asyncpg.InterfaceError:  # asyncpg saw it end, and took it back
        return False
