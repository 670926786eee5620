"""Fixtures: a tenant with leads, and a webhook endpoint on loopback."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from service.database.connect import Pool
from service.settings import Settings
from tests.harness.delivery_harness import DeliveryHarness, open_delivery_harness
from tests.harness.worker_harness import WorkerHarness, make_worker_harness
from tests.loopback.receiver import Receiver, run_receiver


@pytest.fixture
async def harness(
    committed: Pool, settings: Settings, redis_client: redis.asyncio.Redis
) -> WorkerHarness:
    """A harness for a new tenant."""
    return await make_worker_harness(committed, settings, redis_client)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as receiver:
        yield receiver


@pytest.fixture
async def delivery_harness(harness: WorkerHarness, receiver: Receiver) -> DeliveryHarness:
    return await open_delivery_harness(harness, receiver.url)
