import pytest
import redis.asyncio

from service.db import Pool
from service.settings import Settings
from tests.workbench import Workbench, make_workbench


@pytest.fixture
async def bench(
    committed: Pool, settings: Settings, redis_client: redis.asyncio.Redis
) -> Workbench:
    """A tenant's leads and workers driven by hand."""
    return await make_workbench(committed, settings, redis_client)
