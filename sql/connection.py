"""Single connections outside the pools of the processes: for migrations, commands and doctor."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import asyncpg

from sql.errors import DatabaseError

CONNECT_TIMEOUT_S = 10.0


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
        raise DatabaseError(f"The database refused: {_first_line(error)}.") from error
    finally:
        await conn.close(timeout=5)


async def _open(dsn: str) -> asyncpg.Connection:
    try:
        # No statement cache: prepared statements fail behind PgBouncer in transaction mode.
        return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0)
    except TimeoutError as error:
        reason = f"no response within {CONNECT_TIMEOUT_S:g} s"
        raise _unreachable(dsn, reason) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        raise _unreachable(dsn, _first_line(error)) from error


def _unreachable(dsn: str, reason: str) -> DatabaseError:
    return DatabaseError(
        f"The database {describe_dsn(dsn)} cannot be reached ({reason}): "
        "check DATABASE_URL and that PostgreSQL is running there."
    )


def describe_dsn(dsn: str) -> str:
    """The address for a message: without user and password."""
    try:
        parts = urlsplit(dsn)
        host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "of DATABASE_URL"
    return f"{parts.path.lstrip('/') or 'postgres'} on {host}{port}"


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
