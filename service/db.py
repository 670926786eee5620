"""The pool, and what it means when the database is away."""

import asyncio
import time
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from service.errors import TOO_MUCH, Unavailable
from service.metrics import REQUESTS_SHED
from service.settings import Settings
from service.shedding import is_too_late

Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy
Pool: TypeAlias = asyncpg.Pool

DATABASE_AWAY: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server had just ended the connection
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,  # shutdown, crash of another backend, statement_timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.ReadOnlySQLTransactionError,  # a standby, just promoted elsewhere
)
"""Errors that say nothing about the request: the same request may succeed in a moment."""

DATABASE_BUSY: tuple[type[Exception], ...] = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
)
"""Nothing was written, since another transaction was in the way."""

CONNECT_TIMEOUT_S = 3.0
PROBE_PAUSE_S = 0.25
ACQUIRE_TIMEOUT_S = 3.0


async def create_pool(
    settings: Settings,
    application: str,
    size: int | None = None,
    lock_timeout_s: float = 0,
    late_after_s: float = float("inf"),
) -> Pool:
    """A pool that opens connections when they are needed, so that starting needs no database.

    Its connections hold no session state, so releasing one costs no round trip. When somebody has
    waited for one longer than `late_after_s`, those who come are refused with Unavailable.
    """
    pool = _BoundedPool(
        settings.require_database_url(),
        min_size=0,
        max_size=size or settings.db_pool_size,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        loop=None,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        command_timeout=settings.statement_timeout_s + 1,
        timeout=CONNECT_TIMEOUT_S,
        connect=Connector().connect,
        reset=_keep_session,
        statement_cache_size=settings.db_statement_cache,
        server_settings={
            "application_name": application,
            "statement_timeout": f"{settings.statement_timeout_s * 1000:.0f}",
            "lock_timeout": f"{lock_timeout_s * 1000:.0f}",  # 0: as long as a statement may take
            "idle_in_transaction_session_timeout": "10000",
            "jit": "off",
            # A plan is kept for the session, and must not remember the time when a table was empty.
            "enable_seqscan": "off",
            # Starting workers costs more than they save, and takes them from other requests.
            "max_parallel_workers_per_gather": "0",
            "pg_trgm.word_similarity_threshold": "0.45",  # what search takes for a typo
            "TimeZone": "UTC",
        },
    )
    pool.late_after_s = late_after_s
    pool.turns, pool.waiting, pool.kept = asyncio.Semaphore(pool.get_max_size()), {}, []
    return await pool


class _BoundedPool(asyncpg.Pool):
    """A pool that waits a bounded time for a free connection, and for one that is given back.

    The latter is for a frozen server: asyncpg would wait for it to take note of a cancelled
    statement. The connection is then cut.

    A connection that has fetched something well is kept at hand where nobody waits for one: giving
    it back and taking it again takes asyncpg a task and 100 µs, as long as ten reads (py-spy).
    """

    late_after_s = float("inf")
    turns: asyncio.Semaphore
    """In order of arrival: asyncpg's own queue lets who comes just then pass those who wait."""
    waiting: dict[object, float]
    """Since when each of them has waited, the first first."""
    kept: list[PoolConnectionProxy]
    """At hand: each still has its turn."""

    async def fetch(  # type: ignore[override]  # its overloads tell kinds of records apart
        self, query: str, *args: Any, **options: Any
    ) -> list[asyncpg.Record]:
        """As asyncpg's own."""
        conn = await self._acquire(None)
        try:
            found: list[asyncpg.Record] = await conn.fetch(query, *args, **options)
        except BaseException:
            await self.release(conn)
            raise
        if self.turns.locked() or self.is_closing():
            await self.release(conn)
        else:
            self.kept.append(conn)
        return found

    async def close(self) -> None:
        """As asyncpg's own."""
        while self.kept:
            await self.release(self.kept.pop())
        await super().close()

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109  # as asyncpg's own
        while self.kept:
            conn = self.kept.pop()
            if _is_open(conn):
                return conn
            await self.release(conn)
        if self.turns.locked():
            await self._wait(ACQUIRE_TIMEOUT_S if timeout is None else timeout)
        else:
            await self.turns.acquire()
        try:
            return await super()._acquire(timeout)  # type: ignore[misc]  # not in the stubs
        except BaseException:
            self.turns.release()
            raise

    async def _wait(self, bound_s: float) -> None:
        now, place = time.monotonic(), object()
        oldest = next(iter(self.waiting.values()), now)
        if is_too_late(oldest, now, self.late_after_s):
            REQUESTS_SHED.labels("pool").inc()
            raise Unavailable(TOO_MUCH)
        self.waiting[place] = now
        try:
            async with asyncio.timeout(bound_s):
                await self.turns.acquire()
        finally:
            del self.waiting[place]

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
            self.turns.release()


def _is_open(conn: PoolConnectionProxy) -> bool:
    try:
        return not conn.is_closed()
    except asyncpg.InterfaceError:  # asyncpg saw it end, and took it back
        return False


class Connector:
    """Opens connections.

    While the database is away one caller at a time finds out whether it is back, and all others
    fail at once: an outage is answered, not waited for.
    """

    def __init__(self) -> None:
        self._failed_at: float | None = None
        self._probing = False

    async def connect(self, *args: Any, **kwargs: Any) -> asyncpg.Connection:
        """As asyncpg.connect; every failure is a ConnectionError."""
        if self._failed_at is not None:
            if self._probing or time.monotonic() - self._failed_at < PROBE_PAUSE_S:
                raise ConnectionError("the database could not be reached a moment ago")
            self._probing = True
        try:
            conn: asyncpg.Connection = await asyncpg.connect(*args, **kwargs)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            self._failed_at = time.monotonic()
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        finally:
            self._probing = False
        self._failed_at = None
        return conn


async def _keep_session(_: Connection) -> None:
    """We set no session state, so there is none to reset."""
