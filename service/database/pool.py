"""A pool of database connections, with a WaitQueue in front of it."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Self, TypeAlias, TypeVar

import asyncpg

from service.load.admission import REQUEST_LIFE_S
from service.load.wait_queue import WaitQueue

Connection: TypeAlias = asyncpg.Connection
ACQUIRE_TIMEOUT_S = 3.0
"""Longest wait for a connection if the pool has no `limit_s`."""
RECOVER_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 10.0
IDLE_S = 60.0
DISK_FULL_LIFE_S = 10.0
MAY_STILL_RUN = (
    asyncio.CancelledError,
    TimeoutError,
    GeneratorExit,
    asyncpg.InterfaceError,
    OSError,
)
"""Errors after which the statement may still be running on the connection."""
Result = TypeVar("Result")


class Pool:
    """Opens up to `size` connections on demand, and terminates those that are idle for long.

    A released connection goes to the longest waiter in the same step of the event loop. asyncpg's
    own pool releases a connection in a separate task, which takes 100 µs, as long as ten reads
    (py-spy), and four turns of the loop, in which a busy process sends no statement. In its queue,
    new callers can overtake waiting ones.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        size: int,
        limit_s: float = float("inf"),
    ) -> None:
        """`limit_s` is passed to the AdmissionRule. Sessions must hold no state between uses."""
        self.size = size
        self._longest_wait_s = ACQUIRE_TIMEOUT_S if limit_s == float("inf") else REQUEST_LIFE_S
        self._connect = connect
        self._queue: WaitQueue[None, Connection | None] = WaitQueue(
            "pool", limit_s=limit_s, take_back=self._pass_on
        )
        """Gives a connection, or None: the waiter may open one."""
        self._idle: list[tuple[Connection, float]] = []
        """Idle connections, each with the time of its release, the oldest first."""
        self._slots = 0
        """Connections that are in use, idle or being opened; at most `size`."""
        self._in_use: set[Connection] = set()
        self._recoveries: set[asyncio.Task[None]] = set()
        self._disk_full_at = -math.inf
        self._is_closing = False
        self._all_released = asyncio.Event()

    def check(self) -> None:
        """Raise Overloaded if the current owner would wait too long for a connection."""
        self._queue.check()

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[asyncpg.Record]:
        """Run the method of asyncpg.Connection, as the next three methods do."""
        return await self._use(lambda conn: conn.fetch(query, *args, **options))

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._use(lambda conn: conn.fetchrow(query, *args, **options))

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._use(lambda conn: conn.fetchval(query, *args, **options))

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        return await self._use(lambda conn: conn.execute(query, *args, **options))

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        """Borrow a connection. Raises Unavailable or one of DATABASE_AWAY."""
        return self._borrow()

    @asynccontextmanager
    async def _borrow(self) -> AsyncIterator[Connection]:
        conn = await self._take()
        try:
            yield conn
        except BaseException as error:
            # asyncpg may still record a transaction whose BEGIN was cancelled.
            self._release_after(error, conn, is_reusable=False)
            raise
        self._release(conn)

    async def _use(self, run: Callable[[Connection], Awaitable[Result]]) -> Result:
        conn = await self._take()
        try:
            result = await run(conn)
        except BaseException as error:
            self._release_after(error, conn, is_reusable=True)
            raise
        self._release(conn)
        return result

    def has_full_disk(self) -> bool:
        """Whether a statement has failed in the last seconds because the disk is full."""
        return time.monotonic() - self._disk_full_at < DISK_FULL_LIFE_S

    def _release_after(self, error: BaseException, conn: Connection, *, is_reusable: bool) -> None:
        """Take a connection back after an error, and recover it if its statement may still run.

        `is_reusable`: the connection may be used again after the recovery.
        """
        if isinstance(error, MAY_STILL_RUN):
            self._recover_soon(conn, is_reusable=is_reusable)
            return
        if isinstance(error, asyncpg.DiskFullError):
            self._disk_full_at = time.monotonic()
        self._release(conn)

    async def _take(self) -> Connection:
        if self._is_closing:
            raise asyncpg.InterfaceError("the pool is closed")
        conn = await self._take_slot()
        if conn is None or conn.is_closed():
            try:
                conn = await self._connect()
            except BaseException:
                self._pass_on(None)
                raise
        self._in_use.add(conn)
        return conn

    async def _take_slot(self) -> Connection | None:
        self._terminate_idle()
        if self._idle:
            return self._idle.pop()[0]
        if self._slots < self.size:
            self._slots += 1
            return None
        async with asyncio.timeout(self._longest_wait_s):
            return await self._queue.wait()

    def _terminate_idle(self) -> None:
        """Terminate connections that are idle for long: a firewall may have dropped them."""
        while self._idle and self._idle[0][1] < time.monotonic() - IDLE_S:
            self._idle.pop(0)[0].terminate()
            self._pass_on(None)

    def _release(self, conn: Connection) -> None:
        self._in_use.discard(conn)
        if not conn.is_closed() and conn.is_in_transaction():
            conn.terminate()
        self._pass_on(None if conn.is_closed() else conn)

    def _recover_soon(self, conn: Connection, *, is_reusable: bool) -> None:
        recovery = asyncio.create_task(self._recover(conn, is_reusable=is_reusable))
        self._recoveries.add(recovery)
        recovery.add_done_callback(self._recoveries.discard)

    async def _recover(self, conn: Connection, *, is_reusable: bool) -> None:
        """Wait until an abandoned statement has ended; terminate the connection if it does not."""
        try:
            async with asyncio.timeout(RECOVER_TIMEOUT_S):
                await conn.execute("SELECT 1")  # asyncpg first waits for the cancellation
                if not is_reusable:
                    await conn.close()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            conn.terminate()
        finally:
            self._release(conn)

    def _pass_on(self, conn: Connection | None) -> None:
        if self._queue.give(conn):
            return
        if conn is None:
            self._slots -= 1
        else:
            self._idle.append((conn, time.monotonic()))
        if self._is_closing and self._slots == len(self._idle):
            self._all_released.set()

    async def close(self) -> None:
        """Wait until all connections are released and close them; terminate those that hang."""
        self._is_closing = True
        try:
            with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    if self._slots > len(self._idle):
                        await self._all_released.wait()
                    await asyncio.gather(*[conn.close() for conn, _ in self._idle])
        finally:
            self.terminate()

    def terminate(self) -> None:
        """Terminate all connections."""
        self._is_closing = True
        for conn in [*self._in_use, *(conn for conn, _ in self._idle)]:
            conn.terminate()
        self._idle.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
