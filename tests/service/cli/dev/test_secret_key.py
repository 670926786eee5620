"""`leadlog dev` never replaces the key that the stored webhook secrets need."""

import base64
from pathlib import Path

import asyncpg
import pytest

from service.cli.dev.first_key import choose_secret_key
from service.cli.processes import StartError
from service.cli.secret_files import write_secret
from service.database.connect import Pool
from service.settings import Settings
from tests.bench.webhooks.stage import make_endpoint, make_tenant
from tests.harness.cluster import Cluster
from tests.service.cli.devrun import find_free_port, start_dev

OTHER_KEY = "B" * 42 + "A="


@pytest.fixture
async def endpoint_id(committed: Pool, database_url: str, settings: Settings) -> str:
    """A webhook whose secret the key of `settings` encrypted."""
    assert committed is not None
    conn = await asyncpg.connect(database_url)
    endpoint_id = await make_endpoint(
        conn, settings, await make_tenant(conn, "acme"), "http://127.0.0.1:9/"
    )
    await conn.close()
    return endpoint_id


async def test_a_run_without_its_secret_key_is_refused_once_there_is_a_webhook(
    tmp_path: Path, cluster: Cluster, redis_url: str
) -> None:
    key_file, port = tmp_path / "secret.key", find_free_port()
    async with cluster.make_database(template="template0") as database_url:
        env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        async with start_dev(tmp_path, port, env) as run:
            await run.wait_until_ready()
            new = {"url": "http://127.0.0.1:9/", "events": ["lead.created"]}
            run.call("POST", "/v1/webhooks", new)
            assert f"SECRET_KEY={key_file.read_text()}" in (tmp_path / "dev.env").read_text()
            assert await run.stop() == 0
        key_file.unlink()
        async with start_dev(tmp_path, port, env) as run:
            assert await run.read_to_end() == 1
        assert f"leadlog: {key_file} is missing, but the database has webhook" in run.lines[-1]
        assert "put back the file" in run.lines[-1]
        async with start_dev(tmp_path, port, {**env, "SECRET_KEY": OTHER_KEY}) as run:
            await run.wait_for("SECRET_KEY cannot decrypt the secrets of 1 webhook, so")
            await run.wait_until_ready()
        assert not key_file.exists()


async def test_a_key_is_made_for_a_database_without_webhooks(
    tmp_path: Path, database_url: str, committed: Pool
) -> None:
    assert committed is not None
    reported: list[str] = []
    path = tmp_path / "secret.key"
    made = await choose_secret_key(database_url, Settings(), path, reported.append)
    assert len(base64.urlsafe_b64decode(made)) == 32
    assert await choose_secret_key(database_url, Settings(), path, reported.append) == made
    assert reported == []


async def test_a_file_that_holds_another_key_is_reported(
    tmp_path: Path, database_url: str, endpoint_id: str, settings: Settings
) -> None:
    assert endpoint_id
    path = tmp_path / "secret.key"
    for key, sentences in ((OTHER_KEY, 1), (f"{OTHER_KEY},{settings.secret_key}", 0)):
        reported: list[str] = []
        write_secret(path, key)
        assert await choose_secret_key(database_url, Settings(), path, reported.append) == key
        assert len(reported) == sentences
        assert all("set SECRET_KEY to both keys" in sentence for sentence in reported)


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"\xff" * 40])
async def test_a_damaged_key_file_is_named(
    tmp_path: Path, database_url: str, content: bytes
) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StartError, match=f"^{path} holds no key of 32 bytes .* put back the file"):
        await choose_secret_key(database_url, Settings(), path, print)
