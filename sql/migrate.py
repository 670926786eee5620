"""Forward-only migrations: `sql/migrations/NNNN_words.sql`, in order, each once, never edited.

Each file runs in one transaction. A file whose first line is `-- no-transaction` contains one
statement that cannot run in a transaction (CREATE INDEX CONCURRENTLY IF NOT EXISTS) and that may
run twice. `python -m sql.migrate DSN` applies the missing migrations and prints their names.
"""

import asyncio
import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from sql.connection import connect
from sql.errors import DatabaseError

FOLDER = Path(__file__).parent / "migrations"
OLDEST_SERVER = 15
LOCK_KEY = int.from_bytes(b"leadlog", "big")
LOCK_WAIT_S = 60.0
LOCK_RETRY_S = 0.1
# A migration that waits for a table lock blocks all later statements on the table. So it gives up.
TABLE_LOCK_TIMEOUT_S = 5

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+")
BEFORE_RELEASE = "0020_webhook"
"""A migration from before the first release; a database with it cannot be upgraded."""


@dataclass(frozen=True)
class Migration:
    version: int
    name: str
    """The name of the file without `.sql`, with its number."""
    text: str

    @property
    def checksum(self) -> bytes:
        return hashlib.sha256(self.text.encode()).digest()

    @property
    def in_transaction(self) -> bool:
        return not self.text.startswith("-- no-transaction")


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """All migrations of a folder in order; ValueError on a bad name or a number used twice."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.stem)
        if match is None:
            raise ValueError(f"{path.name} is not named like 0001_words.sql")
        version = int(match[1])
        if version in found:
            raise ValueError(f"{path.name} and {found[version].name}.sql have the same number")
        found[version] = Migration(version, path.stem, path.read_text(encoding="utf-8"))
    return list(found.values())


async def migrate(dsn: str, folder: Path = FOLDER) -> list[str]:
    """Applies the missing migrations and creates the next partitions; returns the applied names.

    Several processes may run it at the same time: an advisory lock makes them run one
    after the other. Raises DatabaseError.
    """
    async with connect(dsn) as conn:
        await check_server(conn)
        await _acquire_lock(conn)
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration ("
            "version integer PRIMARY KEY, name text NOT NULL, checksum bytea NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now())"
        )
        missing = _select_missing(read_migrations(folder), await _read_applied(conn))
        for migration in missing:
            await _apply(conn, migration)
        if await conn.fetchval("SELECT to_regprocedure('create_partitions()') IS NOT NULL"):
            await conn.execute("SELECT create_partitions()")
        return [migration.name for migration in missing]


async def pending(dsn: str, folder: Path = FOLDER) -> list[str]:
    """Names of the migrations that `migrate` would apply; changes nothing. Raises DatabaseError."""
    async with connect(dsn) as conn:
        await check_server(conn)
        return await find_pending(conn, folder)


async def find_pending(conn: asyncpg.Connection, folder: Path = FOLDER) -> list[str]:
    """Like `pending`, on an open connection."""
    known = read_migrations(folder)
    if await conn.fetchval("SELECT to_regclass('schema_migration') IS NULL"):
        return [migration.name for migration in known]
    return [migration.name for migration in _select_missing(known, await _read_applied(conn))]


async def check_server(conn: asyncpg.Connection) -> None:
    """Raises DatabaseError unless this is PostgreSQL 15 or later with UTF-8."""
    version = conn.get_server_version()
    if version.major < OLDEST_SERVER:
        raise DatabaseError(
            f"The database is PostgreSQL {version.major}, but Leadlog needs {OLDEST_SERVER} or "
            "later: upgrade it, or give another one in DATABASE_URL."
        )
    encoding = await conn.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise DatabaseError(
            f"The database's encoding is {encoding}, but Leadlog needs UTF8: create it again with "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        )


async def _acquire_lock(conn: asyncpg.Connection) -> None:
    # Tries repeatedly instead of waiting in PostgreSQL: a waiting statement has a snapshot, and the
    # CREATE INDEX CONCURRENTLY of another process would wait for that snapshot: a deadlock.
    deadline = asyncio.get_running_loop().time() + LOCK_WAIT_S
    while not await conn.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
        if asyncio.get_running_loop().time() > deadline:
            raise DatabaseError(
                f"Another migration has been running for more than {LOCK_WAIT_S:g} s: "
                "let it end, then run `leadlog migrate` again."
            )
        await asyncio.sleep(LOCK_RETRY_S)


async def _read_applied(conn: asyncpg.Connection) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await conn.fetch(
        "SELECT version, name, checksum FROM schema_migration ORDER BY version"
    )
    return rows


def _select_missing(
    known: Sequence[Migration], applied: Sequence[asyncpg.Record]
) -> list[Migration]:
    if any(row["name"] == BEFORE_RELEASE for row in applied):
        raise DatabaseError(
            "The database was made by a Leadlog from before the first release, which cannot be "
            "upgraded: start anew with another DATA_DIR, or with an empty database."
        )
    by_version = {migration.version: migration for migration in known}
    for row in applied:
        _compare(by_version.pop(row["version"], None), row)
    newest = max((row["version"] for row in applied), default=0)
    for migration in by_version.values():
        if migration.version < newest:
            raise DatabaseError(
                f"Migration {migration.name} was not applied, but later ones were: "
                f"give it a number above {newest:04}."
            )
    return list(by_version.values())


def _compare(migration: Migration | None, row: asyncpg.Record) -> None:
    if migration is None:
        raise DatabaseError(
            f"The database has migration {row['name']}, which this Leadlog does not have: "
            "run the newer Leadlog that applied it."
        )
    if migration.checksum != row["checksum"]:
        raise DatabaseError(
            f"Migration {migration.name} was changed after it was applied: restore the file, and "
            "put the change into a new migration."
        )


async def _apply(conn: asyncpg.Connection, migration: Migration) -> None:
    try:
        if migration.in_transaction:
            async with conn.transaction():
                await conn.execute(f"SET LOCAL lock_timeout = '{TABLE_LOCK_TIMEOUT_S}s'")
                await conn.execute(migration.text)
                await _record(conn, migration)
        else:
            await conn.execute(f"SET lock_timeout = '{TABLE_LOCK_TIMEOUT_S}s'")
            await conn.execute(migration.text)
            await _record(conn, migration)
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseError(
            f"Migration {migration.name} waited {TABLE_LOCK_TIMEOUT_S} s for a table in use and "
            "gave up: run `leadlog migrate` again when there is less load."
        ) from error
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"Migration {migration.name} failed: {error}.") from error


async def _record(conn: asyncpg.Connection, migration: Migration) -> None:
    await conn.execute(
        "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)",
        migration.version,
        migration.name,
        migration.checksum,
    )


def main(arguments: Sequence[str]) -> int:
    """Runs `python -m sql.migrate DSN`: applies migrations and prints their names, one per line."""
    if len(arguments) != 1:
        print("Usage: python -m sql.migrate postgresql://user@host/database", file=sys.stderr)  # noqa: T201
        return 1
    try:
        for name in asyncio.run(migrate(arguments[0])):
            print(name)  # noqa: T201
    except DatabaseError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
