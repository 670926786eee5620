"""The start of a part is retried without end; the other parts keep running."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from service.cli.dev.data_folder import prepare_folder, prepare_subfolder
from service.cli.dev.embedded_server import Server
from service.cli.dev.servers import Postgres, Valkey
from service.cli.dev.supervisor import (
    FIRST_PAUSE_S,
    PROJECT,
    Command,
    keep_running,
    start_with_retries,
)
from service.cli.processes import KilledError, StartError

PATIENCE_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare_folder(tmp_path / "data")


@asynccontextmanager
async def keep(part: Server | Command, reported: list[str]) -> AsyncIterator[asyncio.Task[None]]:
    task: asyncio.Task[None] = asyncio.create_task(keep_running(part, reported.append))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await part.stop(1.0)


def test_commands_run_the_code_of_this_project() -> None:
    assert (PROJECT / "service/cli/main.py").is_file()


async def wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # other processes
            await asyncio.sleep(0.02)


async def answers(server: Server) -> bool:
    with contextlib.suppress(StartError):
        return await server.is_ready()
    return False


async def accepts(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_the_start_of_a_server_is_retried_until_its_missing_files_are_back(
    folder: Path,
) -> None:
    reported: list[str] = []
    server = Postgres(folder, durable=False)
    await server.start()
    async with keep(server, reported) as task:
        (server.folder / "global").rename(server.folder / "global.x")
        os.kill(server.pid, signal.SIGKILL)
        await wait_until(lambda: any("did not start" in line for line in reported))
        await asyncio.sleep(3 * FIRST_PAUSE_S)  # further attempts, with nothing new to report
        assert not task.done()
        (server.folder / "global.x").rename(server.folder / "global")
        await wait_until(lambda: reported[-1] == "PostgreSQL runs again.")
        conn = await asyncpg.connect(server.dsn)
        assert await conn.fetchval("SELECT 1") == 1
        await conn.close()
    assert reported[0] == "PostgreSQL was ended by SIGKILL; starting again in 0.5 s."
    [sentence] = reported[1:-1]
    assert "global/pg_control" in sentence
    assert sentence.endswith(f"(see {server.log}); {server.remedy}. Trying again until it starts.")


@pytest.mark.parametrize("name", ["data", "x" * 120])  # the latter: a socket in /tmp
@pytest.mark.parametrize("kind", [Valkey, Postgres])
async def test_a_server_whose_socket_file_was_deleted_is_started_again(
    tmp_path: Path, kind: type[Server], name: str
) -> None:
    reported: list[str] = []
    server = kind(prepare_folder(tmp_path / name), durable=False)
    await server.start()
    async with keep(server, reported):
        first, path = server.pid, server.socket_folder / server.socket_name
        if server.socket_folder == server.folder:
            path.unlink()
        else:
            shutil.rmtree(server.socket_folder)
        await wait_until(lambda: bool(reported) and path.exists())
        async with asyncio.timeout(PATIENCE_S):
            while not await accepts(path):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.05)
        assert server.pid != first
        assert not psutil.pid_exists(first)
    reason = f"cannot be reached any more, because its socket {path} was deleted or replaced"
    assert reported == [f"{kind.title} {reason}; starting again in 0.5 s."]


@pytest.mark.parametrize("kind", [Valkey, Postgres])
async def test_a_kill_during_the_start_is_handled_as_any_other_kill(
    folder: Path, kind: type[Server]
) -> None:
    reported: list[str] = []
    server = kind(folder, durable=False)
    await server.start()
    async with keep(server, reported) as task:
        killed: set[int] = set()
        while len(killed) < 4:  # all but the first during the start
            with contextlib.suppress(RuntimeError, ProcessLookupError):  # between two attempts
                os.kill(server.pid, signal.SIGKILL)
                killed.add(server.pid)
            await asyncio.sleep(0.001)
            assert not task.done()
        async with asyncio.timeout(PATIENCE_S):
            while not await answers(server):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.05)
    assert f"{kind.title} was ended by SIGKILL while it started." in " ".join(reported)


async def test_a_first_start_that_is_killed_is_retried(folder: Path) -> None:
    reported: list[str] = []
    server = Valkey(folder, durable=False)

    async def kill_once() -> None:
        while True:
            with contextlib.suppress(RuntimeError):
                os.kill(server.pid, signal.SIGKILL)
                return
            await asyncio.sleep(0)

    killer = asyncio.create_task(kill_once())
    await start_with_retries(server, reported.append, KilledError)
    await killer
    assert await server.is_ready()
    await server.stop()


async def test_a_first_start_is_retried_if_a_process_of_initdb_is_killed(folder: Path) -> None:
    reported: list[str] = []
    server = Postgres(folder, durable=False)

    async def end_the_bootstrap() -> None:
        while True:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    options = process.cmdline()
                    # Not --check: initdb expects that some of these processes fail.
                    if "--boot" in options and process.name() == "postgres":
                        process.kill()
                        return
            await asyncio.sleep(0)

    killer = asyncio.create_task(end_the_bootstrap())
    await start_with_retries(server, reported.append, KilledError)
    await killer
    assert await server.is_ready()
    await server.stop()
    killed = "A process of PostgreSQL's initdb was ended while it started."
    assert reported == [f"{killed} Trying again until it starts.", "PostgreSQL runs again."]


async def test_a_first_start_that_cannot_work_is_reported_in_one_sentence(folder: Path) -> None:
    server = Postgres(folder)
    prepare_subfolder(folder, server.name, server.user.uid, server.user.gid)
    (server.folder / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartError, match="was written by PostgreSQL 17"):
        await start_with_retries(server, print, KilledError)


async def test_a_server_that_is_killed_eight_times_in_a_row_soon_runs_again(folder: Path) -> None:
    reported: list[str] = []
    server = Valkey(folder, durable=False)
    await server.start()
    async with keep(server, reported), asyncio.timeout(PATIENCE_S):
        for _ in range(8):
            while not await answers(server):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.02)
            os.kill(server.pid, signal.SIGKILL)
        while not await answers(server):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    pauses = [line for line in reported if "starting again" in line]
    assert len(pauses) > 1
    # Kills before the supervisor has seen the server ready count as kills during the start.
    assert set(pauses) == {"Valkey was ended by SIGKILL; starting again in 0.5 s."}


async def test_a_command_that_ends_by_itself_is_restarted_after_growing_pauses(
    tmp_path: Path,
) -> None:
    reported: list[str] = []
    with (tmp_path / "lock").open("w") as lock:
        command = Command("The listener", ["--help"], {"PATH": os.environ["PATH"]}, lock.fileno())
        await command.start()
        async with keep(command, reported):
            await wait_until(lambda: len(reported) >= 3)
    assert [float(line.split()[-2]) for line in reported[:3]] == [0.5, 1.0, 2.0]


async def test_other_parts_are_kept_running_while_one_does_not_start(folder: Path) -> None:
    reported: list[str] = []
    postgres, valkey = Postgres(folder, durable=False), Valkey(folder, durable=False)
    await postgres.start()
    await valkey.start()
    async with keep(postgres, reported), keep(valkey, reported):
        (postgres.folder / "PG_VERSION").write_text("17\n")
        os.kill(postgres.pid, signal.SIGKILL)
        await wait_until(lambda: any("was written by PostgreSQL 17" in line for line in reported))
        first = valkey.pid
        psutil.Process(first).kill()
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            with contextlib.suppress(RuntimeError):
                if valkey.pid != first and await answers(valkey):
                    break
            await asyncio.sleep(0.05)
        assert await answers(valkey)
