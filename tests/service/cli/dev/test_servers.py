import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import redis.asyncio

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.embedded_server import Server
from service.cli.dev.servers import Postgres, Valkey
from service.cli.processes import StartError

SCRIPT = """
import asyncio, sys
from pathlib import Path
from service.cli.dev.servers import Postgres, Valkey

async def main() -> None:
    folder = Path(sys.argv[1])
    async with Postgres(folder, durable=False) as postgres, Valkey(folder) as valkey:
        print(postgres.pid, valkey.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare_folder(tmp_path / "data")


@pytest.fixture
async def postgres(folder: Path) -> AsyncIterator[Postgres]:
    async with Postgres(folder, durable=False) as server:
        yield server


async def ask(dsn: str, query: str) -> Any:
    conn = await asyncpg.connect(dsn)
    try:
        return await conn.fetchval(query)
    finally:
        await conn.close()


async def wait_gone(*processes: psutil.Process) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 10)
    assert alive == []


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


async def test_postgres_keeps_its_data_and_leaves_no_process(folder: Path) -> None:
    async with Postgres(folder) as first:
        await ask(first.dsn, "CREATE TABLE kept (id int)")
        processes = family(first.pid)
    await wait_gone(*processes)
    assert not (folder / "postgres" / "postmaster.pid").exists()
    async with Postgres(folder) as second:
        assert await ask(second.dsn, "SELECT count(*) FROM kept") == 0


async def test_postgres_is_set_for_safe_and_fast_service(folder: Path) -> None:
    expected = {
        "synchronous_commit": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "jit": "off",
        "server_encoding": "UTF8",
        "max_connections": "100",
        "random_page_cost": "1.1",
        "TimeZone": "UTC",
    }
    async with Postgres(folder) as server:
        for name, value in expected.items():
            assert await ask(server.dsn, f"SELECT current_setting('{name}')") == value, name
        query = (
            "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'leadlog'"
        )
        assert await ask(server.dsn, query) == "bC.UTF-8"


async def test_other_users_cannot_reach_postgres(postgres: Postgres) -> None:
    assert psutil.Process(postgres.pid).uids().real != 0
    for each in family(postgres.pid):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):  # the process ended
            assert each.net_connections("inet") == []
    assert postgres.folder.stat().st_mode & 0o777 == 0o700
    assert (postgres.folder / postgres.socket_name).stat().st_mode & 0o077 == 0
    assert (postgres.folder.parent / "postgres.log").stat().st_mode & 0o777 == 0o600


async def test_the_apps_role_owns_its_database_and_nothing_more(postgres: Postgres) -> None:
    query = "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls"
    assert await ask(postgres.dsn, f"{query} FROM pg_roles WHERE rolname = 'leadlog'") is False
    for extension in ("pg_trgm", "btree_gin"):
        await ask(postgres.dsn, f"CREATE EXTENSION {extension}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(postgres.dsn, "COPY pg_class TO PROGRAM 'cat'")


async def test_the_callers_environment_does_not_reach_postgres(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    async with Postgres(folder, durable=False) as server:
        assert await ask(server.dsn, "SELECT current_setting('statement_timeout')") == "0"


async def test_statements_and_values_stay_out_of_the_log(postgres: Postgres) -> None:
    await ask(postgres.dsn, "CREATE TABLE lead (email text PRIMARY KEY)")
    await ask(postgres.dsn, "INSERT INTO lead VALUES ('sarah@acmecorp.com')")
    with pytest.raises(asyncpg.UniqueViolationError):
        await ask(postgres.dsn, "INSERT INTO lead VALUES ('sarah@acmecorp.com')")
    assert "sarah" not in postgres.log.read_text()


async def test_postgres_starts_again_after_all_its_processes_were_killed(folder: Path) -> None:
    async with Postgres(folder, durable=False) as first:
        await ask(first.dsn, "CREATE TABLE kept AS SELECT 1 AS id")
        for process in family(first.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        async with Postgres(folder, durable=False) as second:
            assert await ask(second.dsn, "SELECT count(*) FROM kept") == 1


async def test_an_orphaned_postgres_is_ended_before_another_starts(folder: Path) -> None:
    async with Postgres(folder, durable=False) as orphan:
        processes = family(orphan.pid)
        await ask(orphan.dsn, "CREATE TABLE kept (id int)")
        async with Postgres(folder, durable=False) as server:
            await wait_gone(*processes)
            assert await ask(server.dsn, "SELECT count(*) FROM kept") == 0


async def test_orphaned_backends_do_not_prevent_the_start(folder: Path) -> None:
    async with Postgres(folder, durable=False) as first:
        conn = await asyncpg.connect(first.dsn)
        busy = asyncio.create_task(conn.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0)
        os.kill(first.pid, signal.SIGKILL)
        async with Postgres(folder, durable=False) as second:
            assert await ask(second.dsn, "SELECT 1") == 1
        with pytest.raises((asyncpg.PostgresError, OSError, asyncpg.InterfaceError)):
            await busy
        conn.terminate()


async def test_a_reused_process_id_does_not_prevent_the_start(folder: Path) -> None:
    async with Postgres(folder, durable=False) as server:
        pass
    lines = [str(os.getpid()), str(server.folder), "1", "5432", "", "", "0 0", "ready"]
    (server.folder / "postmaster.pid").write_text("\n".join(lines))
    (server.folder / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    async with server:
        assert await ask(server.dsn, "SELECT 1") == 1
    assert psutil.pid_exists(os.getpid())


async def test_an_interrupted_first_start_does_not_prevent_the_next(folder: Path) -> None:
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with Postgres(folder, durable=False) as server:
        assert await ask(server.dsn, "SELECT 1") == 1
    assert not (folder / "postgres.new").exists()


@pytest.mark.parametrize("name", ["x" * 120, "with space, comma % and ü"])
async def test_a_folder_too_long_or_odd_for_a_socket_works(tmp_path: Path, name: str) -> None:
    folder = prepare_folder(tmp_path / name)
    async with Postgres(folder, durable=False) as postgres, Valkey(folder) as valkey:
        assert await ask(postgres.dsn, "SELECT 1") == 1
        client = redis.asyncio.Redis.from_url(valkey.url)
        assert await client.ping()
        await client.aclose()
        sockets = [postgres.socket_folder, valkey.socket_folder]
        for path in sockets:
            assert path.stat().st_mode & 0o777 == 0o700
            assert not path.is_relative_to(folder)
    assert [path for path in sockets if path.exists()] == []


async def test_a_planted_socket_folder_is_refused(tmp_path: Path) -> None:
    server = Valkey(prepare_folder(tmp_path / ("x" * 120)))
    server.socket_folder.symlink_to(tmp_path)
    try:
        with pytest.raises(StartError, match="should be a folder of mode 0700"):
            await server.start()
    finally:
        server.socket_folder.unlink()


async def test_valkey_keeps_its_data_and_evicts_nothing(folder: Path) -> None:
    async with Valkey(folder) as server:
        client = redis.asyncio.Redis.from_url(server.url)
        await client.xadd("stream", {"event": "1"})
        assert await client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        await client.aclose()
        process = psutil.Process(server.pid)
        assert process.uids().real != 0
        assert process.net_connections("inet") == []
        assert (server.folder / server.socket_name).stat().st_mode & 0o077 == 0
    await wait_gone(process)
    async with Valkey(folder) as server:
        client = redis.asyncio.Redis.from_url(server.url)
        assert await client.xlen("stream") == 1
        await client.aclose()


async def test_a_killed_valkey_starts_again(folder: Path) -> None:
    async with Valkey(folder) as first:
        os.kill(first.pid, signal.SIGKILL)
        assert (await first.wait()).reason == "was ended by SIGKILL"
        async with Valkey(folder):
            pass


async def test_an_orphaned_valkey_is_ended_before_another_starts(folder: Path) -> None:
    async with Valkey(folder) as orphan:
        process = psutil.Process(orphan.pid)
        async with Valkey(folder):
            await wait_gone(process)


@pytest.mark.parametrize("kind", [Postgres, Valkey])
async def test_a_start_that_is_cancelled_leaves_nothing(folder: Path, kind: type[Server]) -> None:
    server = kind(folder)
    before = {process.pid for process in psutil.Process().children()}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await server.start()
    assert {process.pid for process in psutil.Process().children()} == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
async def test_servers_end_when_the_process_that_started_them_is_killed(folder: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(text) for text in (await parent.stdout.readline()).split()]
    processes = [process for pid in pids for process in family(pid)]
    parent.kill()
    await parent.communicate()
    await wait_gone(*processes)


async def test_no_permission_above_the_data_folder_changes(folder: Path) -> None:
    above = {path: path.stat().st_mode for path in (folder, *folder.parents)}
    async with Postgres(folder, durable=False), Valkey(folder):
        pass
    assert {path: path.stat().st_mode for path in above} == above
