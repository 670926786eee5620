import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from service.dev.datafolder import write_secret
from tests.cluster import Cluster
from tests.service.devrun import DevRun, find_free_port, start_dev, wait_gone

LEAD = {"email": "sarah@acmecorp.com", "name": "Sarah Chen"}


@pytest.fixture
def port() -> int:
    return find_free_port()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the data shall be; it is not there yet."""
    return tmp_path / "data"


@pytest.fixture
def linked_folder(folder: Path) -> Path:
    """With a link to somewhere else in a server's place."""
    folder.mkdir(mode=0o700)
    (folder / "postgres").symlink_to(folder.parent)
    return folder


@pytest.fixture
def foreign_key_folder(folder: Path) -> Path:
    """With a key of another database."""
    folder.mkdir(mode=0o700)
    write_secret(folder / "admin.key", "sk_live_foreign")
    return folder


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def refuse(run: DevRun) -> str:
    """The one sentence with which a run ends, exit code 1."""
    assert await run.read_to_end() == 1
    assert run.lines[-1].startswith("leadlog: ")
    assert "Traceback" not in "\n".join(run.lines)
    return run.lines[-1]


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DevRun]:
    """A run that is ready, in a folder whose name needs quoting in a shell."""
    folder = tmp_path_factory.mktemp("dev") / "it's a $(odd) folder"
    async with start_dev(folder, find_free_port()) as run:
        await run.wait_until_ready()
        yield run


async def test_it_says_where_it_is_and_with_which_key(running: DevRun) -> None:
    assert f"Leadlog is ready at {running.url}" in running.lines
    assert any(running.key in line for line in running.lines if line.startswith("Admin key: sk_"))
    assert (running.folder / "admin.key").read_text() == f"{running.key}\n"


async def test_what_it_keeps_is_closed_to_others(running: DevRun) -> None:
    for name in ("admin.key", "secret.key", "dev.env", "dev.lock", "postgres.log", "valkey.log"):
        assert mode_of(running.folder / name) == 0o600, name
    for name in (".", "postgres", "valkey", "metrics"):
        assert mode_of(running.folder / name) == 0o700, name


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed lines need curl")
async def test_the_printed_curl_lines_work_as_they_are(running: DevRun) -> None:
    lines = [line for line in running.lines if line.startswith("curl ")]
    assert len(lines) == 3
    for line in lines:
        done = await asyncio.to_thread(
            subprocess.run, ["sh", "-c", line], capture_output=True, check=False
        )
        assert done.returncode == 0
        assert b"sarah@acmecorp.com" in done.stdout


async def test_a_second_run_on_the_same_folder_is_refused(running: DevRun) -> None:
    async with start_dev(running.folder, find_free_port()) as second:
        sentence = await refuse(second)
    assert f"Another `leadlog dev` (process {running.process.pid}) runs on the data" in sentence
    assert running.call("GET", "/v1/api-keys")["data"]


async def test_a_part_that_dies_is_started_again(running: DevRun) -> None:
    running.find("work").kill()
    await running.wait_for("The worker process was ended by SIGKILL; starting again in 0.5 s.")
    running.find("serve").kill()
    await running.wait_for("The API was ended by SIGKILL")
    numbers = (running.folder / "postgres" / "postmaster.pid").read_text().split()
    os.kill(int(numbers[0]), signal.SIGKILL)
    await running.wait_for("PostgreSQL was ended by SIGKILL")
    await asyncio.to_thread(wait_until_served, running)


def wait_until_served(run: DevRun) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            assert run.call("GET", "/v1/api-keys")["data"]
        except OSError:  # refused, or 503 while the database comes back
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


async def test_a_killed_run_starts_again_with_its_data_and_key(folder: Path, port: int) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_until_ready()
        lead = run.call("POST", "/v1/leads", LEAD)
        key, family = run.key, run.family()
        secret = (folder / "secret.key").read_text()
        run.process.kill()
        async with start_dev(folder, port) as second:
            assert key in await second.wait_for("Admin key: ")
            await second.wait_until_ready()
            await wait_gone(family, within_s=0)
            assert (folder / "secret.key").read_text() == secret
            for process in second.family():
                with suppress(psutil.NoSuchProcess):  # it heard before us that its parent is gone
                    process.kill()
            async with start_dev(folder, port) as third:
                await third.wait_until_ready()
                assert third.call("GET", f"/v1/leads/{lead['id']}")["email"] == LEAD["email"]
                await check_gentle_stop(third, signal.SIGINT)


async def check_gentle_stop(run: DevRun, with_signal: signal.Signals) -> None:
    family = run.family()
    assert len(family) > 2
    since = time.monotonic()
    assert await run.stop(with_signal) == 0
    assert time.monotonic() - since < 10
    await wait_gone(family, within_s=0.5)
    assert run.lines[-1] == "Leadlog has stopped."
    assert not (run.folder / "dev.env").exists()


async def test_a_part_that_hangs_delays_neither_the_end_nor_the_next_start(
    folder: Path, port: int
) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_until_ready()
        run.find("work").suspend()
        stopping = asyncio.create_task(check_gentle_stop(run, signal.SIGTERM))
        await asyncio.to_thread(wait_for_text, folder / "dev.lock", "stopping")
        async with start_dev(folder, port) as second:
            await second.wait_for("Waiting for the previous run to end.")
            await stopping
            await second.wait_until_ready()
            await check_forced_stop(second)


def wait_for_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def check_forced_stop(run: DevRun) -> None:
    family = run.family()
    run.find("work").suspend()  # a gentle stop would take its time
    run.process.send_signal(signal.SIGINT)
    await run.wait_for("Stopping; once more Ctrl-C stops at once.")
    since = time.monotonic()
    assert await run.stop(signal.SIGINT) == 1
    assert time.monotonic() - since < 2
    await wait_gone(family, within_s=3)


async def test_a_port_in_use_is_one_sentence(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with start_dev(folder, port) as run:
            sentence = await refuse(run)
    assert f"Port {port} on 127.0.0.1 is taken: " in sentence
    assert "set PORT to another" in sentence
    assert not (folder / "postgres").exists()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"DATA_DIR": "/proc/leadlog"}, "The data folder /proc/leadlog cannot be used"),
        ({"DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/x"}, "The database x on 127.0.0.1:1"),
        ({"PORT": "high"}, "These settings cannot be used: PORT='high'"),
        ({"HOST": "192.0.2.1"}, "HOST 192.0.2.1 is no address of this machine"),
        ({"SECRET_KEY": "", "HOST": "no.such.host.invalid"}, "HOST no.such.host.invalid"),
    ],
)
async def test_what_cannot_work_is_one_sentence(
    folder: Path, port: int, env: dict[str, str], words: str
) -> None:
    async with start_dev(folder, port, env) as run:
        sentence = await refuse(run)
    assert words in sentence
    assert "geheim" not in sentence


async def test_a_stray_link_in_the_data_folder_is_refused(linked_folder: Path, port: int) -> None:
    async with start_dev(linked_folder, port) as run:
        assert "should be a folder of mode 0700" in await refuse(run)
    assert mode_of(linked_folder.parent) == 0o700


async def test_servers_of_ones_own_are_used_and_a_key_that_fits_none_is_replaced(
    foreign_key_folder: Path, port: int, cluster: Cluster, redis_url: str
) -> None:
    async with cluster.make_database(template="template0") as database_url:
        env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        async with start_dev(foreign_key_folder, port, env) as run:
            await run.wait_until_ready()
            assert run.key != "sk_live_foreign"
            assert run.call("POST", "/v1/leads", LEAD)["email"] == LEAD["email"]
            assert not (foreign_key_folder / "postgres").exists()
            assert not (foreign_key_folder / "valkey").exists()
            family = run.family()
            run.stop_reading()
            run.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                await run.process.wait()
            await wait_gone(family, within_s=0.5)
