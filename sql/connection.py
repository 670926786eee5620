"""Single connections outside the pools of the processes: for migrations, commands and doctor."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import asyncpg

from sql.errors import DatabaseError, describe_error

CONNECT_TIMEOUT_S = 10.0
_IS_RUNNING = "check DATABASE_URL and that PostgreSQL is running there"
_ADVICE: dict[type[Exception], str] = {
    asyncpg.InvalidAuthorizationSpecificationError: "correct user and password in DATABASE_URL",
    asyncpg.InvalidPasswordError: "correct user and password in DATABASE_URL",
    asyncpg.InvalidCatalogNameError: "create this database, or correct its name in DATABASE_URL",
    asyncpg.UndefinedObjectError: "correct the options after the ? in DATABASE_URL",
    asyncpg.CantChangeRuntimeParamError: "correct the options after the ? in DATABASE_URL",
    asyncpg.InterfaceError: "correct DATABASE_URL",
    asyncpg.TooManyConnectionsError: "end other connections, or raise its max_connections",
    asyncpg.CannotConnectNowError: "try again in a moment",
}
"""What to do about an error when a connection is opened; for other errors: _IS_RUNNING."""
_CLIENT_WORDS = {
    "rejected SSL upgrade": "it refuses TLS, or is no PostgreSQL server",
    "connection_lost()": "it closed the connection, so it may be no PostgreSQL server",
}
"""Words of asyncpg that do not tell the reason, with the reason."""


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """An open connection, closed at the end.

    Raises DatabaseError if the database cannot be reached, or reports an error while the connection
    is open.
    """
    conn = await _open(dsn)
    try:
        yield conn
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if isinstance(error, OSError) and not conn.is_closed():
            raise  # the error has nothing to do with the connection
        reason = describe_database_error(error)
        raise DatabaseError(f"The database {describe_dsn(dsn)} refused: {reason}.") from error
    finally:
        await conn.close(timeout=5)


async def _open(dsn: str) -> asyncpg.Connection:
    try:
        # No statement cache: prepared statements fail behind PgBouncer in transaction mode.
        return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0)
    except TimeoutError as error:
        reason = f"no response within {CONNECT_TIMEOUT_S:g} s"
        raise _unusable(dsn, "reached", reason, _IS_RUNNING) from error
    except OSError as error:
        reason = describe_database_error(error)
        raise _unusable(dsn, "reached", reason, _IS_RUNNING) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        advice = next((_ADVICE[kind] for kind in type(error).__mro__ if kind in _ADVICE), None)
        reason = describe_database_error(error)
        raise _unusable(dsn, "used", reason, advice or _IS_RUNNING) from error


def _unusable(dsn: str, verb: str, reason: str, advice: str) -> DatabaseError:
    return DatabaseError(f"The database {describe_dsn(dsn)} cannot be {verb} ({reason}): {advice}.")


def describe_database_error(error: BaseException) -> str:
    """As describe_error, with the words of asyncpg for another server explained."""
    text = str(error)
    for words, reason in _CLIENT_WORDS.items():
        if words in text:
            return reason
    return describe_error(error)


def describe_dsn(dsn: str) -> str:
    """The address for a message: without user and password."""
    try:
        parts = urlsplit(dsn)
        host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "of DATABASE_URL"
    return f"{parts.path.lstrip('/') or 'postgres'} on {host}{port}"
