"""A server that cannot start with its folder is reported in one sentence, with a remedy."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from service.cli.dev.data_folder import prepare_folder, prepare_subfolder
from service.cli.dev.servers import Postgres, Valkey
from service.cli.processes import KilledError, StartError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare_folder(tmp_path / "data")


async def test_files_of_another_postgresql_version_are_reported_in_one_sentence(
    folder: Path,
) -> None:
    server = Postgres(folder)
    prepare_subfolder(folder, server.name, server.user.uid, server.user.gid)
    (server.folder / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartError, match=r"was written by PostgreSQL 17, but 18 is installed: "):
        await server.start()


async def test_a_server_that_aborts_is_reported_with_its_reason(folder: Path) -> None:
    async with Postgres(folder, durable=False) as server:
        pass
    os.truncate(server.folder / "global" / "pg_control", 0)
    with pytest.raises(StartError, match=r"^PostgreSQL did not start: .*pg_control") as caught:
        await server.start()
    assert not isinstance(caught.value, KilledError)  # `leadlog dev` would try again for ever


@pytest.mark.parametrize("content", [b"", b"xx\n", b"\xff\xfe\x00"])
async def test_a_damaged_version_file_is_named(folder: Path, content: bytes) -> None:
    server = Postgres(folder)
    prepare_subfolder(folder, server.name, server.user.uid, server.user.gid)
    (server.folder / "PG_VERSION").write_bytes(content)
    with pytest.raises(StartError, match=r"postgres/PG_VERSION holds no version number .* put it"):
        await server.start()


async def test_a_damaged_folder_is_reported_in_one_sentence_that_names_the_log(
    folder: Path,
) -> None:
    async with Postgres(folder, durable=False) as server:
        pass
    (server.folder / "global" / "pg_control").unlink()
    with pytest.raises(StartError, match=r"^PostgreSQL did not start: .*\(see .*postgres\.log\)"):
        await server.start()


async def make_postgres(folder: Path, settings: str) -> Postgres:
    """A PostgreSQL that was started once, with further lines in postgresql.auto.conf."""
    async with Postgres(folder, durable=False) as server:
        pass
    with (server.folder / "postgresql.auto.conf").open("a") as file:
        file.write(settings)
    return server


async def test_settings_in_the_folder_do_not_move_the_socket(folder: Path) -> None:
    settings = "port = 6000\nunix_socket_directories = '/tmp'\nlisten_addresses = '*'\n"
    async with await make_postgres(folder, settings) as server:
        assert (server.folder / server.socket_name).exists()


async def test_a_malformed_settings_file_is_reported_with_a_remedy(folder: Path) -> None:
    server = await make_postgres(folder, "rubbish\n")
    with pytest.raises(StartError) as caught:
        await server.start()
    sentence = str(caught.value)
    assert 'postgresql.auto.conf" contains errors (see ' in sentence
    assert sentence.endswith("or set another DATA_DIR to start without data.")


async def test_a_malformed_aof_of_valkey_is_reported_with_a_remedy(folder: Path) -> None:
    async with Valkey(folder) as server:
        pass
    overwrite((server.folder / "appendonlydir").glob("*.incr.aof"))
    with pytest.raises(StartError) as caught:
        await server.start()
    assert f"or move {server.folder} away: no data are lost" in str(caught.value)
    server.folder.rename(folder / "away")
    async with server:
        pass


def overwrite(paths: Iterable[Path]) -> None:
    for path in paths:
        path.write_text("rubbish\n")
