"""`fresh` is the API for a tenant of its own, whose lists show nothing else."""

import pytest

from service.database.connect import Pool
from tests.harness.api_client import Api
from tests.harness.factories import make_tenant


@pytest.fixture
async def fresh(api: Api, committed: Pool) -> Api:
    async with committed.acquire() as conn:
        return api.of(await make_tenant(conn))
