import asyncio
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from service.datafolder import write_secret
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


async def test_a_start_tells_where_it_is_and_ends_without_a_trace(folder: Path, port: int) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_for(f"Leadlog is ready at http://127.0.0.1:{port}")
        key_line = await run.wait_for("Admin key: sk_live_")
        assert run.key in key_line
        assert (folder / "admin.key").read_text() == f"{run.key}\n"
        await run.wait_until_ready()
        for path in (folder / "admin.key", folder / "secret.key", folder / "dev.env"):
            assert mode_of(path) == 0o600
        for path in (folder, folder / "postgres", folder / "valkey", folder / "metrics"):
            assert mode_of(path) == 0o700
        family = run.family()
        assert len(family) > 5
        since = time.monotonic()
        assert await run.stop() == 0
        assert time.monotonic() - since < 10
        await wait_gone(family, within_s=0.5)
        assert run.lines[-1] == "Leadlog has stopped."
        assert not (folder / "dev.env").exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed lines need curl")
async def test_the_printed_curl_lines_work_as_they_are(folder: Path, port: int) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_until_ready()
        lines = [line for line in run.lines if line.startswith("curl ")]
        assert len(lines) == 3
        for line in lines:
            done = await asyncio.to_thread(
                subprocess.run, ["sh", "-c", line], capture_output=True, check=False
            )
            assert done.returncode == 0
            assert b"sarah@acmecorp.com" in done.stdout


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
            assert second.call("GET", f"/v1/leads/{lead['id']}")["email"] == LEAD["email"]
            assert (folder / "secret.key").read_text() == secret
            assert await second.stop(signal.SIGINT) == 0


async def test_a_run_killed_with_all_its_servers_starts_again(folder: Path, port: int) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_until_ready()
        lead = run.call("POST", "/v1/leads", LEAD)
        for process in run.family():
            process.kill()
        async with start_dev(folder, port) as second:
            await second.wait_until_ready()
            assert second.call("GET", f"/v1/leads/{lead['id']}")["email"] == LEAD["email"]


async def test_a_part_that_dies_is_started_again(folder: Path, port: int) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_until_ready()
        run.find("work").kill()
        await run.wait_for("The worker process was ended by SIGKILL; starting again in 0.5 s.")
        run.find("serve").kill()
        await run.wait_for("The API was ended by SIGKILL")
        os.kill(int((folder / "postgres" / "postmaster.pid").read_text().split()[0]), 9)
        await run.wait_for("PostgreSQL was ended by SIGKILL")
        await asyncio.to_thread(wait_until_served, run)
        assert await run.stop() == 0


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


async def test_a_second_signal_ends_everything_at_once(folder: Path, port: int) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_until_ready()
        family = run.family()
        worker = run.find("work")
        worker.suspend()  # so that a gentle stop would take its time
        run.process.send_signal(signal.SIGINT)
        await run.wait_for("Stopping; once more Ctrl-C stops at once.")
        since = time.monotonic()
        assert await run.stop(signal.SIGINT) == 1
        assert time.monotonic() - since < 2
        await wait_gone(family, within_s=3)


async def test_a_part_that_hangs_does_not_delay_the_end(folder: Path, port: int) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_until_ready()
        family = run.family()
        run.find("work").suspend()
        since = time.monotonic()
        assert await run.stop() == 0
        assert time.monotonic() - since < 10
        await wait_gone(family, within_s=0.5)


async def test_a_second_run_on_the_same_folder_is_refused(folder: Path, port: int) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_until_ready()
        async with start_dev(folder, find_free_port()) as second:
            sentence = await refuse(second)
        assert f"Another `leadlog dev` (process {run.process.pid}) runs on the data" in sentence
        assert run.call("POST", "/v1/leads", LEAD)["email"] == LEAD["email"]


async def test_a_run_waits_for_one_that_is_stopping(folder: Path, port: int) -> None:
    async with start_dev(folder, port) as run:
        await run.wait_until_ready()
        run.find("work").suspend()
        run.process.send_signal(signal.SIGTERM)
        await run.wait_for("Stopping")
        async with start_dev(folder, port) as second:
            await second.wait_for("Waiting for the previous run to end.")
            await second.wait_until_ready()


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


async def test_servers_of_ones_own_are_used(
    folder: Path, port: int, cluster: Cluster, redis_url: str
) -> None:
    async with cluster.make_database(template="template0") as database_url:
        env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        async with start_dev(folder, port, env) as run:
            await run.wait_until_ready()
            assert run.call("POST", "/v1/leads", LEAD)["email"] == LEAD["email"]
            assert not (folder / "postgres").exists()
            assert not (folder / "valkey").exists()
            assert await run.stop() == 0


async def test_a_key_file_that_fits_no_key_is_replaced(
    foreign_key_folder: Path, port: int, cluster: Cluster, redis_url: str
) -> None:
    async with cluster.make_database() as database_url:
        env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        async with start_dev(foreign_key_folder, port, env) as run:
            await run.wait_until_ready()
            assert run.key != "sk_live_foreign"
            assert run.call("POST", "/v1/leads", LEAD)["email"] == LEAD["email"]


async def test_a_folder_with_odd_characters_works(tmp_path: Path, port: int) -> None:
    async with start_dev(tmp_path / "it's a $(odd) folder", port) as run:
        await run.wait_until_ready()
        assert shlex.quote(str(run.folder / "admin.key")) in run.lines[-1]
        assert run.call("POST", "/v1/leads", LEAD)["email"] == LEAD["email"]
