"""A tenant's leads and workers driven by hand, and an endpoint of its on loopback."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from service.db import Pool
from service.settings import Settings
from tests.desk import Desk, open_desk
from tests.receiver import Receiver, run_receiver
from tests.workbench import Workbench, make_workbench


@pytest.fixture
async def bench(
    committed: Pool, settings: Settings, redis_client: redis.asyncio.Redis
) -> Workbench:
    """A tenant's leads and workers driven by hand."""
    return await make_workbench(committed, settings, redis_client)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as receiver:
        yield receiver


@pytest.fixture
async def desk(bench: Workbench, receiver: Receiver) -> Desk:
    return await open_desk(bench, receiver.url)
