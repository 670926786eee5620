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

from service.cli.secret_files import write_secret
from tests.harness.cluster import Cluster
from tests.service.cli.devrun import DevRun, find_free_port, start_dev, wait_gone

LEAD = {"email": "sarah@acmecorp.com", "name": "Sarah Chen"}


@pytest.fixture
def port() -> int:
    return find_free_port()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The path of the data folder, which does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
def linked_folder(folder: Path) -> Path:
    """A data folder in which `postgres` is a symbolic link to another folder."""
    folder.mkdir(mode=0o700)
    (folder / "postgres").symlink_to(folder.parent)
    return folder


@pytest.fixture
def foreign_key_folder(folder: Path) -> Path:
    """A data folder whose admin.key holds a key that is unknown to the database."""
    folder.mkdir(mode=0o700)
    write_secret(folder / "admin.key", "sk_live_foreign")
    return folder


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def refuse(run: DevRun) -> str:
    """Waits until a run ends with exit code 1, and returns its error sentence."""
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


async def test_dev_prints_its_url_and_its_key(running: DevRun) -> None:
    assert f"Leadlog is ready at {running.url}" in running.lines
    assert any(running.key in line for line in running.lines if line.startswith("Admin key: sk_"))
    assert (running.folder / "admin.key").read_text() == f"{running.key}\n"


async def test_dev_prints_the_address_of_the_documentation(running: DevRun) -> None:
    (line,) = [line for line in running.lines if line.startswith("Documentation")]
    assert line.endswith(f" {running.url}/docs")


async def test_the_files_of_dev_are_closed_to_other_users(running: DevRun) -> None:
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


async def test_a_killed_part_is_started_again(running: DevRun) -> None:
    running.find("work").kill()
    await running.wait_for("The worker process was ended by SIGKILL; starting again in 0.5 s.")
    running.find("serve").kill()
    await running.wait_for("The API was ended by SIGKILL")
    numbers = (running.folder / "postgres" / "postmaster.pid").read_text().split()
    os.kill(int(numbers[0]), signal.SIGKILL)
    await running.wait_for("PostgreSQL was ended by SIGKILL")
    await asyncio.to_thread(wait_until_served, running)


async def test_a_deleted_socket_file_is_noticed(running: DevRun) -> None:
    path = find_redis_socket(running)
    path.unlink()
    await running.wait_for("Valkey cannot be reached any more, because its socket ")
    await asyncio.to_thread(wait_for_file, path)


def find_redis_socket(run: DevRun) -> Path:
    lines = (run.folder / "dev.env").read_text().splitlines()
    [url] = [line for line in lines if line.startswith("REDIS_URL=")]
    return Path(url.removeprefix("REDIS_URL=unix://"))


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
                with suppress(psutil.NoSuchProcess):  # ended with its parent
                    process.kill()
            async with start_dev(folder, port) as third:
                await third.wait_until_ready()
                assert third.call("GET", f"/v1/leads/{lead['id']}")["email"] == LEAD["email"]
                await check_gentle_stop(third, signal.SIGINT)
                assert not (folder / "dev.env").exists()


async def check_gentle_stop(run: DevRun, with_signal: signal.Signals) -> None:
    family = run.family()
    assert len(family) > 2
    since = time.monotonic()
    assert await run.stop(with_signal) == 0
    assert time.monotonic() - since < 10
    await wait_gone(family, within_s=0.5)
    assert run.lines[-1] == "Leadlog has stopped."


async def test_a_part_that_hangs_delays_neither_the_shutdown_nor_the_next_start(
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
    run.find("work").suspend()  # a gentle stop would wait for it
    run.process.send_signal(signal.SIGINT)
    await run.wait_for("Stopping; Ctrl-C again stops at once.")
    since = time.monotonic()
    assert await run.stop(signal.SIGINT) == 1
    assert time.monotonic() - since < 2
    await wait_gone(family, within_s=3)


async def test_a_port_in_use_is_reported_in_one_sentence(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with start_dev(folder, port) as run:
            sentence = await refuse(run)
    assert f"Port {port} on 127.0.0.1 is taken: " in sentence
    assert "set PORT to another" in sentence
    assert not (folder / "postgres").exists()


async def test_a_metrics_port_that_cannot_be_used_is_reported_before_anything_starts(
    folder: Path, port: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        for metrics_port, words in (
            (taken, f"METRICS_PORT {taken} on 127.0.0.1 is taken"),
            (port, f"METRICS_PORT is {port}, the API's own port"),
        ):
            async with start_dev(folder, port, {"METRICS_PORT": str(metrics_port)}) as run:
                assert words in await refuse(run)
            assert len(run.lines) == 1
    assert not (folder / "postgres").exists()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"DATA_DIR": "/proc/leadlog"}, "The data folder /proc/leadlog cannot be used"),
        ({"DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/x"}, "The database x on 127.0.0.1:1"),
        ({"PORT": "high"}, "These settings cannot be used: PORT='high'"),
        ({"HOST": "192.0.2.1"}, "HOST 192.0.2.1 is not an address of this machine"),
        ({"SECRET_KEY": "", "HOST": "no.such.host.invalid"}, "HOST no.such.host.invalid"),
    ],
)
async def test_an_invalid_setting_is_reported_in_one_sentence(
    folder: Path, port: int, env: dict[str, str], words: str
) -> None:
    async with start_dev(folder, port, env) as run:
        sentence = await refuse(run)
    assert words in sentence
    assert "geheim" not in sentence


async def test_a_folder_instead_of_a_file_is_reported_with_a_remedy(
    folder: Path, port: int
) -> None:
    (folder / "dev.env").mkdir(parents=True, mode=0o700)
    async with start_dev(folder, port) as run:
        sentence = await refuse(run)
    assert f"{folder}/dev.env cannot be used (Is a directory): move it away" in sentence


async def test_a_foreign_link_in_the_data_folder_is_refused(linked_folder: Path, port: int) -> None:
    async with start_dev(linked_folder, port) as run:
        assert "should be a folder of mode 0700" in await refuse(run)
    assert mode_of(linked_folder.parent) == 0o700


async def test_given_servers_are_used_and_an_unknown_key_is_replaced(
    foreign_key_folder: Path, port: int, cluster: Cluster, redis_url: str
) -> None:
    async with cluster.make_database(template="template0") as database_url:
        env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        async with start_dev(foreign_key_folder, port, env) as run:
            await run.wait_until_ready()
            assert run.key != "sk_live_foreign"
            old = foreign_key_folder / "admin.key.old"
            assert (old.read_text(), mode_of(old)) == ("sk_live_foreign\n", 0o600)
            assert any(f"it is now in {old}" in line for line in run.lines)
            assert run.call("POST", "/v1/leads", LEAD)["email"] == LEAD["email"]
            assert not (foreign_key_folder / "postgres").exists()
            assert not (foreign_key_folder / "valkey").exists()
            family = run.family()
            run.stop_reading()
            run.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                await run.process.wait()
            await wait_gone(family, within_s=0.5)
