"""Leadlog waits for a missing PostgreSQL folder and never replaces it by an empty cluster."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from service.cli.dev.cluster_state import has_cluster
from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Postgres
from service.cli.processes import StartError
from tests.service.cli.dev.test_supervisor import keep, wait_until
from tests.service.cli.devrun import find_free_port, start_dev


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare_folder(tmp_path / "data")


async def count_kept(server: Postgres) -> int:
    conn = await asyncpg.connect(server.dsn)
    try:
        return int(await conn.fetchval("SELECT count(*) FROM kept"))
    finally:
        await conn.close()


async def test_the_restart_waits_for_a_folder_that_was_moved_away(folder: Path) -> None:
    reported: list[str] = []
    server = Postgres(folder, durable=False)
    await server.start()
    conn = await asyncpg.connect(server.dsn)
    await conn.execute("CREATE TABLE kept AS SELECT 1 AS id")
    conn.terminate()
    async with keep(server, reported):
        server.folder.rename(folder / "postgres.x")
        os.kill(server.pid, signal.SIGKILL)
        await wait_until(lambda: any("is missing" in line for line in reported))
        assert not server.folder.exists()
        assert not (folder / "postgres.new").exists()
        (folder / "postgres.x").rename(server.folder)
        await wait_until(lambda: reported[-1] == "PostgreSQL runs again.")
        assert await count_kept(server) == 1
    assert f"{server.folder} is missing, but Leadlog has run here before" in reported[1]
    assert reported[1].endswith("Trying again until it starts.")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (shutil.rmtree, "postgres is missing, but Leadlog has run here before"),
        (lambda path: shutil.rmtree(path / "base"), "postgres is empty, but Leadlog"),
        (lambda _: None, "postgres/PG_VERSION is missing: put it"),
    ],
)
@pytest.mark.parametrize("sign", ["postgres.initialised", "admin.key", "secret.key"])
def test_a_cluster_is_initialised_in_a_new_data_folder_only(
    folder: Path, damage: Callable[[Path], object], sentence: str, sign: str
) -> None:
    assert not has_cluster(folder / "postgres")
    (folder / "postgres" / "base").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").touch()
    (folder / sign).touch()
    assert has_cluster(folder / "postgres")
    (folder / "postgres" / "PG_VERSION").unlink()
    damage(folder / "postgres")
    with pytest.raises(StartError, match=sentence):
        has_cluster(folder / "postgres")


async def test_a_run_without_its_cluster_ends_with_one_sentence_and_keeps_the_key(
    folder: Path,
) -> None:
    (folder / "admin.key").write_text("sk_live_of_the_cluster")
    (folder / "admin.key").chmod(0o600)
    async with start_dev(folder, find_free_port()) as run:
        assert await run.read_to_end() == 1
    assert f"{folder}/postgres is missing, but Leadlog has run here before" in run.lines[-1]
    assert run.lines[-1].startswith("leadlog: ")
    assert (folder / "admin.key").read_text() == "sk_live_of_the_cluster"
    assert not (folder / "postgres").exists()
