"""A new reader of the log, and a client of a new tenant."""

import aiohttp
import pytest

from service.database.connect import Pool
from service.events.event_log import Cursor
from tests.harness.api_client import Api
from tests.harness.factories import make_tenant


@pytest.fixture
async def start(committed: Pool) -> Cursor:
    """The cursor of a new reader."""
    return Cursor(await committed.fetchval("SELECT tick FROM ticker"))


@pytest.fixture
async def caller(server: str, session: aiohttp.ClientSession, pool: Pool) -> Api:
    """A client of a tenant that has no event yet."""
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    return Api(server, session, tenant, tenant.key())
