"""Forward-only migrations: `sql/migrations/NNNN_words.sql`, in order, each once, never edited.

Each file runs in one transaction; one whose first line is `-- no-transaction` runs statement by
statement instead (CREATE INDEX CONCURRENTLY) and must bear a second run, since it may stop halfway.
`python -m sql.migrate DSN` applies what is missing and prints its names.
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
# A migration that waits for a table blocks everyone who comes after it: better to fail and retry.
TABLE_LOCK_TIMEOUT_S = 5

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+")
# What a semicolon can hide in; longest forms first.
_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ | (?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Migration:
    version: int
    name: str
    """The file's name without its ending, number included."""
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
    """Applies what is missing and makes the coming partitions; returns the applied names.

    Safe to run from several places at once: they take turns. Raises DatabaseError.
    """
    async with connect(dsn) as conn:
        await check_server(conn)
        await _take_turn(conn)
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


async def _take_turn(conn: asyncpg.Connection) -> None:
    # Asks again and again instead of waiting inside the server: a waiting statement holds a
    # snapshot, and another migrator's CREATE INDEX CONCURRENTLY would wait for it in turn.
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
            f"The database has migration {row['name']}, which this Leadlog does not know: "
            "run the newer Leadlog that applied it."
        )
    if migration.checksum != row["checksum"]:
        raise DatabaseError(
            f"Migration {migration.name} was changed after it was applied: bring the file back as "
            "it was, and put the change into a new migration."
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
            for statement in split_statements(migration.text):
                await conn.execute(statement)
            await _record(conn, migration)
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseError(
            f"Migration {migration.name} waited {TABLE_LOCK_TIMEOUT_S} s for a table in use and "
            "gave up: run `leadlog migrate` again when less is going on."
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


def split_statements(text: str) -> list[str]:
    """Splits at the semicolons that end statements, not at those in strings and comments."""
    statements: list[str] = []
    start = 0
    for match in _TOKEN.finditer(text):
        if match["end"]:
            statements.append(text[start : match.start()].strip())
            start = match.end()
    rest = text[start:].strip()
    return [part for part in (*statements, rest) if re.sub(r"--[^\n]*|\s", "", part)]


def main(arguments: Sequence[str]) -> int:
    """`python -m sql.migrate DSN`: applies, prints the names, one a line."""
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
