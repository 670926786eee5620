"""The pool, and what it means when the database is away."""

import asyncio
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from service.settings import Settings

Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy
Pool: TypeAlias = asyncpg.Pool

DATABASE_AWAY: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,  # shutdown, crash of another backend, statement_timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.ReadOnlySQLTransactionError,  # a standby, just promoted elsewhere
)
"""Errors that say nothing about the request: the same request may succeed in a moment."""


async def create_pool(
    settings: Settings, application: str, size: int | None = None, lock_timeout_s: float = 0
) -> Pool:
    """A pool that opens connections when they are needed, so that starting needs no database.

    Its connections hold no session state, so releasing one costs no round trip.
    """
    return await asyncpg.create_pool(
        settings.require_database_url(),
        min_size=0,
        max_size=size or settings.db_pool_size,
        max_inactive_connection_lifetime=300.0,
        command_timeout=settings.statement_timeout_s + 5,
        timeout=5.0,
        reset=_keep_session,
        server_settings={
            "application_name": application,
            "statement_timeout": f"{settings.statement_timeout_s * 1000:.0f}",
            "lock_timeout": f"{lock_timeout_s * 1000:.0f}",  # 0: as long as a statement may take
            "idle_in_transaction_session_timeout": "10000",
            "jit": "off",
            "TimeZone": "UTC",
        },
    )


async def _keep_session(_: Connection) -> None:
    """We set no session state, so there is none to reset."""
