"""A log to publish, and a publisher that tests run turn by turn."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.database.connect import Pool
from service.settings import Settings
from tests.workers.streams.connecting import Starter
from tests.workers.streams.stream_harness import StreamHarness
from workers.publisher import Publisher


@pytest.fixture
def maintain_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the publisher maintain its streams in every turn."""
    monkeypatch.setattr("workers.publisher.MAINTENANCE_EVERY_S", 0.0)


@pytest.fixture
def stream_harness(committed: Pool, redis_client: Redis, settings: Settings) -> StreamHarness:
    return StreamHarness(committed, redis_client, settings)


@pytest.fixture
def publisher(stream_harness: StreamHarness) -> Publisher:
    return stream_harness.make_publisher()


@pytest.fixture
async def starter(redis_url: str, tmp_path: Path) -> AsyncIterator[Starter]:
    async with AsyncExitStack() as stack:
        yield Starter(redis_url, tmp_path / "crm.sqlite", stack)
