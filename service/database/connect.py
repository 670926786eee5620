"""Creates pools of connections, and classifies errors of an unavailable database."""

import asyncio
import time
from functools import partial
from typing import Any
from weakref import WeakSet

import asyncpg

from service.database.pool import Connection, Pool
from service.settings import Settings
from sql.connection import describe_database_error

__all__ = ["Connection", "Pool"]

DATABASE_AWAY: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server has just closed the connection
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,  # shutdown, crash of another backend, statement_timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.ReadOnlySQLTransactionError,  # a standby; another server has been promoted
)
"""Errors that are not caused by the request: the same request may succeed in a moment."""

DISK_FULL = asyncpg.DiskFullError
DATABASE_BUSY: tuple[type[Exception], ...] = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
)
"""Another transaction holds a lock that is needed; nothing was written."""

CONNECT_TIMEOUT_S = 3.0
PROBE_PAUSE_S = 0.25
FAULT_LIFE_S = 2.0


async def create_pool(
    settings: Settings,
    application: str,
    size: int | None = None,
    lock_timeout_s: float = 0,
    limit_s: float = float("inf"),
    connector: "Connector | None" = None,
) -> Pool:
    """Create a pool that opens connections on demand, so that starting needs no database.

    Connections hold no session state, so releasing one costs no round trip. A caller is refused if
    its expected wait for a connection exceeds `limit_s`; see AdmissionRule.
    """
    connect = partial(
        (connector or Connector()).connect,
        settings.require_database_url(),
        command_timeout=settings.statement_timeout_s + 1,
        timeout=CONNECT_TIMEOUT_S,
        statement_cache_size=settings.db_statement_cache,
        server_settings=make_session_settings(settings, application, lock_timeout_s),
    )
    return Pool(connect, size or settings.db_pool_size, limit_s)


def make_session_settings(
    settings: Settings, application: str, lock_timeout_s: float = 0
) -> dict[str, str]:
    """The server settings of every session; the watch uses them too, so it detects faulty ones."""
    return {
        "application_name": application,
        "statement_timeout": f"{settings.statement_timeout_s * 1000:.0f}",
        "lock_timeout": f"{lock_timeout_s * 1000:.0f}",  # 0: limited by statement_timeout
        "idle_in_transaction_session_timeout": "10000",
        "jit": "off",
        # A statement is planned once per session. Left to choose, PostgreSQL planned the statements
        # with arrays for every execution, which took longer than executing them.
        "plan_cache_mode": "force_generic_plan",
        # Plans are cached for the session. Without this, a plan made for an empty table would
        # remain a sequential scan.
        "enable_seqscan": "off",
        # Starting parallel workers costs more than they save, and other requests need them.
        "max_parallel_workers_per_gather": "0",
        "TimeZone": "UTC",
    }


class Connector:
    """Opens connections.

    While the database is away, one caller at a time tries to connect and all others fail at once:
    requests are refused quickly instead of waiting for the end of the outage.
    """

    def __init__(self) -> None:
        self._failed_at: float | None = None
        self._reason = ""
        self._probing = False
        self._is_blocked = False
        self._opened: WeakSet[Any] = WeakSet()  # Any: see count_statements

    async def connect(self, *args: Any, **kwargs: Any) -> asyncpg.Connection:
        """As asyncpg.connect, but every failure is a ConnectionError."""
        if self._is_blocked:
            raise ConnectionError("the database does not respond")
        if self._failed_at is not None:
            if self._probing or time.monotonic() - self._failed_at < PROBE_PAUSE_S:
                raise ConnectionError(f"could not connect a moment ago: {self._reason}")
            self._probing = True
        try:
            conn: asyncpg.Connection = await asyncpg.connect(*args, **kwargs)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            self._failed_at = time.monotonic()
            self._reason = describe_database_error(error)
            raise ConnectionError(self._reason) from error
        finally:
            self._probing = False
        self._failed_at = None
        self._opened.add(conn)
        return conn

    def disconnect_all(self) -> None:
        """Terminate all connections and their statements; open none until `allow_connections`."""
        self._is_blocked = True
        for conn in list(self._opened):
            conn.terminate()
        self._opened.clear()

    def allow_connections(self) -> None:
        """Open connections again, since the database responds to the watch."""
        self._is_blocked = False
        self._failed_at = None

    def find_recent_fault(self) -> str | None:
        """Why the last attempt to connect failed, if that was within FAULT_LIFE_S; else None."""
        if self._failed_at is None or time.monotonic() - self._failed_at > FAULT_LIFE_S:
            return None
        return self._reason

    def count_statements(self) -> dict[asyncpg.Connection, int]:
        """The number of statements that each connection has begun."""
        # asyncpg's own pool uses this counter; there is no public one.
        return {conn: conn._protocol.queries_count for conn in self._opened if not conn.is_closed()}  # noqa: SLF001

    def has_finished_statement_since(self, before: dict[asyncpg.Connection, int]) -> bool:
        """Whether a statement has finished on any connection since `before` was counted.

        A connection runs one statement at a time. So if it has begun two more since `before`, the
        first of the two has finished.
        """
        now = self.count_statements()
        return any(now[conn] >= count + 2 for conn, count in before.items() if conn in now)
