"""Fixtures: the whole service, running for the tests of a module."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.database.connect import Pool
from service.settings import Settings
from tests.harness.cluster import reset_database
from tests.harness.running_service import RunningService, run_service


@pytest.fixture(scope="module")
async def running(
    settings: Settings, pool: Pool, admin_conn: asyncpg.Connection
) -> AsyncIterator[RunningService]:
    async with run_service(settings, pool) as running:
        yield running
    await reset_database(admin_conn)
