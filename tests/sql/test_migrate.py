import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from sql.connection import connect, describe_dsn
from sql.errors import DatabaseError
from sql.migrate import check_server, migrate, pending, read_migrations
from tests.harness.cluster import Cluster


@pytest.fixture
async def empty_url(cluster: Cluster) -> AsyncIterator[str]:
    async with cluster.make_database(template="template0") as dsn:
        yield dsn


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "0001_first.sql", "CREATE TABLE first (id int); CREATE TABLE other (id int);")
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


async def fetch(dsn: str, query: str) -> list[asyncpg.Record]:
    async with connect(dsn) as conn:
        rows: list[asyncpg.Record] = await conn.fetch(query)
        return rows


async def test_the_migrations_apply_once_and_create_partitions(empty_url: str) -> None:
    names = [migration.name for migration in read_migrations()]
    assert names
    assert await pending(empty_url) == names
    assert await migrate(empty_url) == names
    assert await migrate(empty_url) == []
    assert await pending(empty_url) == []
    rows = await fetch(empty_url, "SELECT name FROM schema_migration ORDER BY version")
    assert [row["name"] for row in rows] == names
    assert await fetch(empty_url, "SELECT FROM pg_inherits LIMIT 1")


async def test_only_the_new_file_is_pending(empty_url: str, folder: Path) -> None:
    assert await migrate(empty_url, folder) == ["0001_first"]
    write(folder, "0002_second.sql", "ALTER TABLE first ADD COLUMN name text")
    assert await pending(empty_url, folder) == ["0002_second"]
    assert await migrate(empty_url, folder) == ["0002_second"]


async def test_pending_changes_nothing(empty_url: str, folder: Path) -> None:
    await pending(empty_url, folder)
    assert await fetch(empty_url, "SELECT FROM pg_tables WHERE schemaname = 'public'") == []


async def test_concurrent_migrators_run_one_after_the_other(empty_url: str, folder: Path) -> None:
    applied = await asyncio.gather(*(migrate(empty_url, folder) for _ in range(5)))
    assert sorted(applied) == [[], [], [], [], ["0001_first"]]


async def test_concurrent_index_builds_do_not_deadlock(empty_url: str, folder: Path) -> None:
    for number, name, table in (("0002", "a", "first"), ("0003", "b", "other")):
        write(
            folder,
            f"{number}_index_{name}.sql",
            f"-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} (id);",
        )
    applied = await asyncio.gather(*(migrate(empty_url, folder) for _ in range(4)))
    assert sum(map(len, applied)) == 3
    rows = await fetch(
        empty_url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'b'::regclass"
    )
    assert rows[0]["indisvalid"]


async def test_a_failing_migration_leaves_nothing(empty_url: str, folder: Path) -> None:
    write(folder, "0002_bad.sql", "CREATE TABLE half (id int); SELECT 1/0;")
    with pytest.raises(DatabaseError, match=r"^Migration 0002_bad failed: division by zero\.$"):
        await migrate(empty_url, folder)
    assert await pending(empty_url, folder) == ["0002_bad"]
    assert await fetch(empty_url, "SELECT FROM pg_tables WHERE tablename = 'half'") == []


async def test_a_migration_gives_up_on_a_table_in_use(empty_url: str, folder: Path) -> None:
    await migrate(empty_url, folder)
    write(folder, "0002_wait.sql", "SET lock_timeout = '50ms'; ALTER TABLE first ADD name text")
    async with connect(empty_url) as holder, holder.transaction():
        await holder.execute("SELECT FROM first")
        with pytest.raises(DatabaseError, match="waited 5 s for a table in use and gave up"):
            await migrate(empty_url, folder)
    assert await migrate(empty_url, folder) == ["0002_wait"]


async def test_a_changed_file_is_refused(empty_url: str, folder: Path) -> None:
    await migrate(empty_url, folder)
    write(folder, "0001_first.sql", "CREATE TABLE first (id bigint)")
    with pytest.raises(DatabaseError, match="0001_first was changed after it was applied"):
        await migrate(empty_url, folder)


async def test_a_database_from_before_the_first_release_is_refused(
    empty_url: str, folder: Path
) -> None:
    write(folder, "0020_webhook.sql", "SELECT 1")
    await migrate(empty_url, folder)
    with pytest.raises(DatabaseError, match="start anew with another DATA_DIR"):
        await migrate(empty_url)


async def test_a_database_of_a_newer_leadlog_is_refused(empty_url: str, folder: Path) -> None:
    write(folder, "0002_second.sql", "SELECT 1")
    await migrate(empty_url, folder)
    (folder / "0002_second.sql").unlink()
    with pytest.raises(DatabaseError, match="has migration 0002_second, which this Leadlog"):
        await pending(empty_url, folder)


async def test_a_migration_with_a_number_below_an_applied_one_is_refused(
    empty_url: str, folder: Path
) -> None:
    write(folder, "0003_third.sql", "SELECT 1")
    await migrate(empty_url, folder)
    write(folder, "0002_second.sql", "SELECT 1")
    with pytest.raises(DatabaseError, match="give it a number above 0003"):
        await migrate(empty_url, folder)


async def test_partitions_are_created_last_if_their_function_exists(
    empty_url: str, folder: Path
) -> None:
    write(
        folder,
        "0002_partitions.sql",
        "CREATE FUNCTION create_partitions() RETURNS void LANGUAGE sql "
        "AS $$ INSERT INTO first VALUES (1); $$;",
    )
    await migrate(empty_url, folder)
    assert len(await fetch(empty_url, "SELECT FROM first")) == 1


@pytest.mark.parametrize("name", ["1_short.sql", "0001-dash.sql", "0001_Upper.sql", "words.sql"])
def test_a_bad_file_name_is_an_error(folder: Path, name: str) -> None:
    write(folder, name, "")
    with pytest.raises(ValueError, match=r"is not named like 0001_words\.sql"):
        read_migrations(folder)


def test_a_number_used_twice_is_an_error(folder: Path) -> None:
    write(folder, "0001_second.sql", "")
    with pytest.raises(ValueError, match="have the same number"):
        read_migrations(folder)


async def test_an_old_server_is_refused_with_its_version(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sql.migrate.OLDEST_SERVER", 99)
    async with connect(empty_url) as conn:
        with pytest.raises(DatabaseError, match="but Leadlog needs 99 or later"):
            await check_server(conn)


async def test_a_database_without_utf8_is_refused(cluster: Cluster) -> None:
    options = "template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'"
    async with cluster.make_database(template=options) as dsn:
        with pytest.raises(DatabaseError, match="encoding is SQL_ASCII, but Leadlog needs UTF8"):
            await migrate(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://leadlog:geheim@127.0.0.1:1/leadlog",
        "postgresql://leadlog:geheim@/leadlog?host=/nonexistent",
        "mysql://leadlog:geheim@127.0.0.1/leadlog",
        "postgresql://leadlog:geheim@127.0.0.1:notaport/leadlog",
    ],
)
async def test_an_unreachable_database_is_reported_in_one_sentence_without_password(
    dsn: str,
) -> None:
    with pytest.raises(DatabaseError) as caught:
        await migrate(dsn)
    message = str(caught.value)
    assert message.startswith("The database ")
    assert re.search("(check|correct) DATABASE_URL", message)
    assert "geheim" not in message
    assert "\n" not in message


def test_an_address_is_described_without_its_user() -> None:
    assert describe_dsn("postgresql://u:p@db.example:6000/leads") == "leads on db.example:6000"
    assert describe_dsn("postgresql://u@/leads?host=/run/pg") == "leads on /run/pg"


async def test_the_module_runs_as_a_program(empty_url: str) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "sql.migrate", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603

    done = await asyncio.to_thread(run, empty_url)
    assert done.stdout.split() == [migration.name for migration in read_migrations()]
    assert run(empty_url).stdout == ""
    assert run().returncode == 1
    failed = run("postgresql://127.0.0.1:1/x")
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
