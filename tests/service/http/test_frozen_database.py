"""A database that has frozen with its connections open: requests are given up, not left hanging."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
from msgspec.structs import replace

from service.dev.datafolder import prepare_folder
from service.dev.servers import Postgres
from service.settings import Settings
from sql.migrate import migrate
from tests.factories import make_tenant
from tests.serving import Api, serve_api

STATEMENT_TIMEOUT_S = 0.5


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


@pytest.mark.parametrize("path", ["/v1/leads?limit=1", "/v1/leads/lead_1"])
async def test_a_frozen_database_is_503_within_the_deadline_and_well_again_afterwards(
    api: Api, settings: Settings, tmp_path: Path, path: str
) -> None:
    async with Postgres(prepare_folder(tmp_path / "data"), durable=False) as server:
        await migrate(server.dsn)
        conn = await asyncpg.connect(server.dsn)
        tenant = await make_tenant(conn)
        await conn.close()
        mine = replace(settings, database_url=server.dsn, statement_timeout_s=STATEMENT_TIMEOUT_S)
        async with serve_api(mine) as url:
            caller = Api(url, api.session, tenant, tenant.key())
            assert (await caller.get(path)).status in {200, 404}
            with freeze(server):
                began = time.monotonic()
                answer = await caller.get(path)
                assert (answer.status, answer.error["code"]) == (503, "unavailable")
                assert time.monotonic() - began < STATEMENT_TIMEOUT_S + 7
            while (await caller.get(path)).status == 503:
                assert time.monotonic() - began < 60
