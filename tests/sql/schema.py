"""`python -m tests.sql.schema` writes sql/schema.sql: the schema that all migrations make."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from service.cli.dev.server_programs import find_postgres_programs, find_server_user
from service.cli.launch import build_command
from service.cli.processes import Child
from sql.migrate import migrate

FILE = Path(__file__).parents[2] / "sql" / "schema.sql"
HEADER = """\
-- The schema as it is, for reading. `make schema` writes this file; a test compares it with what
-- the migrations make on PostgreSQL 15 and 18. The reasons are in the comments of sql/migrations/.
-- Left out: the weekly partitions, which create_partitions() makes.

"""
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_OBJECT = re.compile(r"^-- Name: .*?; Type: (.*?); .*\n--\n", re.MULTILINE)
_OMITTED = re.compile(r"^(--.*|SET .*|SELECT pg_catalog.*|\\.*)$", re.MULTILINE)
_TABLE = re.compile(r"(?:TABLE|ONLY|ON) public\.(\w+)")
_INITDB = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")


def dump_schema(dsn: str) -> str:
    """The schema of a migrated database, without parts that depend on the server's version."""
    command = [
        str(find_postgres_programs() / "pg_dump"), "--schema-only", "--no-owner",
        "--no-privileges", "--no-comments", "--exclude-table=*_20??????",
        "--exclude-table=schema_migration",
        f"--dbname={dsn}",
    ]  # fmt: skip
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    parts = _OBJECT.split(dumped.stdout)[1:]
    objects = sorted(zip(parts[::2], parts[1::2], strict=True), key=_make_sort_key)
    text = "".join(_OMITTED.sub("", text).replace("public.", "") for _, text in objects)
    return HEADER + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _make_sort_key(named: tuple[str, str]) -> tuple[int, str]:
    """Sorts types first, then tables by name with their indexes and triggers, then functions."""
    kind, text = named
    table = _TABLE.search(text)
    if kind == "FUNCTION":
        return 2, ""
    return (0, "") if kind == "TYPE" or table is None else (1, table[1])


@asynccontextmanager
async def run_server(programs: Path) -> AsyncIterator[str]:
    """Runs the PostgreSQL in `programs`; yields the DSN of an empty database."""
    user = find_server_user()
    folder = Path(tempfile.mkdtemp(prefix="leadlog-schema-"))
    os.chown(folder, user.uid, user.gid)

    def start(*argv: str) -> Child:
        command = build_command(argv, signal.SIGINT, (user.uid, user.gid))
        return Child(command, cwd=folder, env=_ENVIRONMENT, log=folder / "log")

    server: Child | None = None
    try:
        if await start(f"{programs}/initdb", "-D", f"{folder}/data", *_INITDB).wait() != 0:
            raise RuntimeError((folder / "log").read_text(encoding="utf-8"))
        server = start(
            f"{programs}/postgres", "-D", f"{folder}/data", "-c", "listen_addresses=",
            "-c", f"unix_socket_directories={folder}", "-c", "fsync=off",
        )  # fmt: skip
        yield await _make_database(folder)
    finally:
        if server is not None:
            await server.stop([signal.SIGINT, signal.SIGQUIT], 3.0)
        shutil.rmtree(folder)


async def _make_database(folder: Path) -> str:
    dsn = f"postgresql://postgres@/{{}}?host={folder}"
    async with asyncio.timeout(60):
        while True:
            try:
                conn = await asyncpg.connect(dsn.format("postgres"))
                break
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)
    await conn.execute("CREATE DATABASE leadlog")
    await conn.close()
    return dsn.format("leadlog")


async def make_schema(programs: Path) -> str:
    """The text that sql/schema.sql must have, made with the PostgreSQL in `programs`."""
    async with run_server(programs) as dsn:
        await migrate(dsn)
        return dump_schema(dsn)


if __name__ == "__main__":
    FILE.write_text(asyncio.run(make_schema(find_postgres_programs())), encoding="utf-8")
