"""Real servers for all tests. A test's first choice is `conn`, whose changes are rolled back;
`committed` is for what needs commits, several connections or a whole app.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from service.db import Connection, Pool, create_pool
from service.dev.datafolder import prepare_folder
from service.dev.servers import Valkey
from service.settings import Settings
from tests.cluster import Cluster, RunningCluster, reset_database

_running = pytest.StashKey[RunningCluster]()


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        session.config.stash[_running] = RunningCluster()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (running := session.config.stash.get(_running, None)) is not None:
        running.stop()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    running = node.config.stash[_running]
    node.workerinput["cluster"] = (running.folder, running.address)


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config, worker_id: str) -> Cluster:
    """The run's PostgreSQL; `make_database` gives databases of one's own."""
    given = getattr(pytestconfig, "workerinput", None)
    if given is not None:
        folder, address = given["cluster"]
        return Cluster(folder, address, worker_id)
    running = pytestconfig.stash[_running]
    return Cluster(running.folder, running.address)


@pytest.fixture(scope="session")
async def database_url(cluster: Cluster) -> AsyncIterator[str]:
    """This worker's database, migrated."""
    async with cluster.make_database() as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def valkey(cluster: Cluster) -> AsyncIterator[Valkey]:
    """This worker's Valkey."""
    folder = prepare_folder(Path(cluster.folder) / cluster.worker)
    async with Valkey(folder, durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(valkey: Valkey) -> str:
    return valkey.url


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of this worker's Valkey, which is emptied before and afterwards."""
    client = redis.asyncio.Redis.from_url(redis_url)
    await client.flushall()
    yield client
    await client.flushall()
    await client.aclose()


@pytest.fixture(scope="session")
def settings(
    database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """What `leadlog dev` would give the app, with this worker's servers."""
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        secret_key="A" * 43 + "=",
        webhook_allow_private=True,
        data_dir=tmp_path_factory.mktemp("data"),
        shed_after_s=60,  # a machine under test is late by itself
    )


@pytest.fixture(scope="session")
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    """The app's own kind of pool. What a test commits through it stays: see `committed`."""
    pool = await create_pool(settings, "tests")
    yield pool
    await pool.close()


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in a transaction that is rolled back."""
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        try:
            yield conn
        finally:
            await transaction.rollback()


@pytest.fixture(scope="session")
async def admin_conn(cluster: Cluster, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The superuser in this worker's database, for cleaning up."""
    name = database_url.split("@/")[1].split("?", maxsplit=1)[0]
    conn = await asyncpg.connect(cluster.dsn_of(name, "postgres"))
    yield conn
    await conn.close()


@pytest.fixture
async def committed(pool: Pool, admin_conn: asyncpg.Connection) -> AsyncIterator[Pool]:
    """The pool; before and afterwards every table is as the migrations left it."""
    await reset_database(admin_conn)
    yield pool
    await reset_database(admin_conn)
