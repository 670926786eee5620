"""A database that freezes with open connections: requests get a 503 instead of waiting."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
from msgspec.structs import replace

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Postgres
from service.database.connect import Connector, create_pool
from service.database.database_watch import DatabaseWatch
from service.settings import Settings
from sql.migrate import migrate
from tests.harness.api_client import Api, serve_api
from tests.harness.factories import make_tenant

STATEMENT_TIMEOUT_S = 20.0
SOON_S = 8.0
"""The limit of the time until the 503: it takes 3 s on an idle machine, 22 s without the watch."""


@contextmanager
def freeze(server: Postgres) -> Iterator[None]:
    parent = psutil.Process(server.pid)
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


PATHS = ("/v1/leads?limit=1", "/v1/leads/lead_1", "/v1/api-keys")


async def test_a_frozen_database_is_soon_503_for_all_requests_and_works_again_afterwards(
    api: Api, settings: Settings, tmp_path: Path
) -> None:
    async with Postgres(prepare_folder(tmp_path / "data"), durable=False) as server:
        await migrate(server.dsn)
        conn = await asyncpg.connect(server.dsn)
        tenant = await make_tenant(conn)
        await conn.close()
        mine = replace(settings, database_url=server.dsn, statement_timeout_s=STATEMENT_TIMEOUT_S)
        async with serve_api(mine) as url:
            caller = Api(url, api.session, tenant, tenant.key())
            for path in PATHS:
                assert (await caller.get(path)).status in {200, 404}
            with freeze(server):
                began = time.monotonic()
                crowd = await asyncio.gather(*(caller.get(path) for path in PATHS * 10))
                for answer in crowd:
                    assert (answer.status, answer.error["code"]) == (503, "unavailable")
                assert time.monotonic() - began < SOON_S
                began = time.monotonic()
                assert (await caller.get(PATHS[0])).status == 503
                assert time.monotonic() - began < 1.0  # the fault is known by now
            while (await caller.get(PATHS[0])).status == 503:
                assert time.monotonic() - began < 60


async def test_a_slow_statement_is_not_cancelled(settings: Settings) -> None:
    connector = Connector()
    async with (
        await create_pool(settings, "slow", 2, connector=connector) as pool,
        DatabaseWatch(settings, connector).running(),
    ):
        assert await pool.fetchval("SELECT 1 FROM pg_sleep(4)") == 1


async def test_a_finished_statement_shows_that_the_database_is_not_frozen(
    settings: Settings,
) -> None:
    """The test also fails if asyncpg changes its private member, the number of statements."""
    connector = Connector()
    async with await create_pool(settings, "busy", 1, connector=connector) as pool:
        assert await pool.fetchval("SELECT 1") == 1
        before = connector.count_statements()
        assert len(before) == 1
        assert await pool.fetchval("SELECT 1") == 1
        assert not connector.has_finished_statement_since(
            before
        )  # the next statement shows that this one ended
        assert await pool.fetchval("SELECT 1") == 1
        assert connector.has_finished_statement_since(before)
        connector.disconnect_all()
        with pytest.raises(ConnectionError):
            await pool.fetchval("SELECT 1")
        connector.allow_connections()
        assert await pool.fetchval("SELECT 1") == 1
