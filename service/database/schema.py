"""Checks that the database has the migrations of this version of Leadlog."""

import asyncpg

import sql
from service.database.connect import Connection
from sql.migrate import read_migrations

MIGRATIONS = frozenset(migration.name for migration in read_migrations())

SCHEMA_BEHIND: tuple[type[Exception], ...] = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedObjectError,
)
"""Errors of statements that occur only in a database without all migrations."""


async def find_missing(conn: Connection) -> list[str]:
    """Names of the missing migrations; the database may have those of a newer version as well."""
    try:
        applied = {row["name"] for row in await conn.fetch(sql.migration_list)}
    except asyncpg.UndefinedTableError:
        applied = set()
    return sorted(MIGRATIONS - applied)


def describe_missing(missing: list[str]) -> str:
    """A sentence about the missing migrations."""
    if len(missing) == len(MIGRATIONS):
        return "The database has no tables of Leadlog yet: run `leadlog migrate`."
    return f"The database lacks migrations ({', '.join(missing)}): run `leadlog migrate`."
