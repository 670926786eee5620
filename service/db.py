"""The pool, and what it means when the database is away."""

import asyncio
import time
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from service.pool import BoundedPool
from service.settings import Settings

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


async def create_pool(
    settings: Settings,
    application: str,
    size: int | None = None,
    lock_timeout_s: float = 0,
    limit_s: float = float("inf"),
) -> BoundedPool:
    """A pool that opens connections when they are needed, so that starting needs no database.

    Its connections hold no session state, so releasing one costs no round trip. Who would wait for
    one longer than `limit_s` is refused with Unavailable.
    """
    pool = BoundedPool(
        settings.require_database_url(),
        min_size=0,
        max_size=size or settings.db_pool_size,
        # For those that asyncpg has; service/pool.py ends those that it keeps itself.
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
    pool.open_line(limit_s)
    await pool
    return pool


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
