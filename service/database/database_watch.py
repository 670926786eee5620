"""Checks, on a connection of its own, that the database is reachable, migrated and responsive.

A server can freeze with its connections open; each statement would then wait for its timeout. The
watch runs SELECT 1 twice a second. If that takes RESPONSE_LIMIT_S and no other statement of the
process has finished meanwhile, it terminates the connections of the pools, so that waiting requests
get a 503, and blocks new connections until the database responds to the watch again. A statement
that is merely slow continues, because the watch gets its response. No request runs a check.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from service.database.connect import DATABASE_AWAY, Connector, make_session_settings
from service.database.plan_choice import find_plan_fault
from service.database.schema import describe_missing, find_missing
from service.settings import Settings
from service.telemetry.logging import get_logger
from service.telemetry.outage_log import OutageLog
from sql.connection import describe_database_error, describe_dsn

CHECK_EVERY_S = 0.5
RESPONSE_LIMIT_S = 2.0
UNUSABLE: tuple[type[Exception], ...] = (*DATABASE_AWAY, asyncpg.PostgresError, ValueError)
GRACE_S = 0.1
"""Extra time for a response that has arrived but was not read because the event loop was late."""
log = get_logger("database")


class DatabaseWatch:
    """`fault` is a sentence that says why the database cannot be used now; None: it can."""

    def __init__(self, settings: Settings, connector: Connector) -> None:
        self._settings = settings
        self._connector = connector
        self._dsn = settings.require_database_url()
        self._outage = OutageLog("database")
        self._conn: asyncpg.Connection | None = None
        self.fault: str | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch while entered."""
        task = asyncio.create_task(self._watch_forever(), name="database watch")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._disconnect()

    async def wait_until_usable(self) -> None:
        """Wait until the database is reachable and migrated; log the reason meanwhile."""
        pause_s = CHECK_EVERY_S
        while not await self.check():
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 5.0)

    async def _watch_forever(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(CHECK_EVERY_S)

    async def check(self) -> bool:
        """Check once whether the database can be used."""
        try:
            self.fault = await self._find_fault()
        except UNUSABLE as error:
            self._disconnect()
            self.fault = self._describe(error)
        fault = self.fault
        # For example too many connections: the watch has one already.
        if fault is None and (reason := self._connector.find_recent_fault()) is not None:
            fault = self._describe(reason)
        if fault is None:
            self._outage.report_back()
        else:
            self._outage.report_away(fault)
        return self.fault is None

    async def _find_fault(self) -> str | None:
        if self._conn is None:
            self._conn = await asyncpg.connect(
                self._dsn,
                timeout=RESPONSE_LIMIT_S,
                statement_cache_size=0,
                server_settings=make_session_settings(self._settings, "leadlog-watch"),
            )
            self.fault = "not checked yet"
        if self.fault is None:
            await self._probe(self._conn)
            return None
        async with asyncio.timeout(RESPONSE_LIMIT_S):
            missing = await find_missing(self._conn)
            self._connector.allow_connections()
            if missing:
                return describe_missing(missing)
            await self._check_plan(self._conn)
        return None

    async def _check_plan(self, conn: asyncpg.Connection) -> None:
        name = self._settings.default_plan
        if name is not None and (fault := await find_plan_fault(conn, name)):
            reason = f"DEFAULT_PLAN limits nothing. {fault}"
            log.error("default_plan.unknown", reason=reason)

    async def _probe(self, conn: asyncpg.Connection) -> None:
        """Raise TimeoutError, and terminate all connections, if the database is frozen."""
        before = self._connector.count_statements()
        response = asyncio.ensure_future(conn.fetchval("SELECT 1"))
        try:
            await asyncio.wait({response}, timeout=RESPONSE_LIMIT_S)
            if not response.done():
                await asyncio.wait({response}, timeout=GRACE_S)
        except asyncio.CancelledError:  # the process ends: nobody would read the response's error
            response.cancel()
            raise
        if response.done():
            response.result()
            return
        response.cancel()
        conn.terminate()
        with suppress(*DATABASE_AWAY, asyncio.CancelledError):
            await response
        if not self._connector.has_finished_statement_since(before):
            self._connector.disconnect_all()
        raise TimeoutError(f"no response within {RESPONSE_LIMIT_S:g} s")

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.terminate()
            self._conn = None

    def _describe(self, error: Exception | str) -> str:
        reason = error if isinstance(error, str) else describe_database_error(error)
        return (
            f"The database {describe_dsn(self._dsn)} cannot be used ({reason}); "
            "trying again until it can."
        )
