"""Real servers for all tests. Tests prefer `conn`, whose changes are rolled back; tests that need
commits, several connections or a whole app use `committed`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest
import redis.asyncio

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Valkey
from service.database.connect import Connection, Pool, create_pool
from service.settings import Settings
from tests.harness.cluster import Cluster, RunningCluster, reset_database
from tests.harness.leaks import LeakCheck

_running = pytest.StashKey[RunningCluster]()

# The same examples at each run; `pytest --hypothesis-profile default` looks for others.
hypothesis.settings.register_profile("seeded", derandomize=True)
hypothesis.settings.load_profile("seeded")


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


@pytest.fixture(scope="session", autouse=True)
async def leak_check() -> LeakCheck:
    return LeakCheck(asyncio.get_running_loop())


@pytest.fixture(autouse=True)
def nothing_left_running(leak_check: LeakCheck) -> Iterator[None]:
    """Fails a test that leaves a task or a listening socket behind."""
    leak_check.begin()
    yield
    leak_check.check()


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config, worker_id: str) -> Cluster:
    """The run's PostgreSQL; its `make_database` makes a database for a single test."""
    given = getattr(pytestconfig, "workerinput", None)
    if given is not None:
        folder, address = given["cluster"]
        return Cluster(folder, address, worker_id)
    running = pytestconfig.stash[_running]
    return Cluster(running.folder, running.address)


@pytest.fixture(scope="session")
async def database_url(cluster: Cluster) -> AsyncIterator[str]:
    """The DSN of this worker's migrated database."""
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
    """The settings that `leadlog dev` gives the app, with this worker's servers."""
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        secret_key="A" * 43 + "=",
        webhook_allow_private=True,
        data_dir=tmp_path_factory.mktemp("data"),
        shed_after_s=60,  # tests alone make the loop late
    )


@pytest.fixture(scope="session")
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    """A pool made as the app makes it. Commits through it stay; `committed` removes them."""
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
    """A superuser's connection to this worker's database, for cleaning up."""
    name = database_url.split("@/")[1].split("?", maxsplit=1)[0]
    conn = await asyncpg.connect(cluster.dsn_of(name, "postgres"))
    yield conn
    await conn.close()


@pytest.fixture
async def committed(pool: Pool, admin_conn: asyncpg.Connection) -> AsyncIterator[Pool]:
    """The pool; before and after the test every table is reset to the rows of the migrations."""
    await reset_database(admin_conn)
    yield pool
    await reset_database(admin_conn)
