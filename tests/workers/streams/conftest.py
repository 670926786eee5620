"""A log to publish and a publisher to turn by hand."""

import pytest
from redis.asyncio import Redis

from service.db import Pool
from service.settings import Settings
from tests.workers.streaming import Stage
from workers.publisher import Publisher


@pytest.fixture
def tend_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher looks after its streams whenever it is turned."""
    monkeypatch.setattr("workers.publisher.TEND_EVERY_S", 0.0)


@pytest.fixture
def stage(committed: Pool, redis_client: Redis, settings: Settings) -> Stage:
    return Stage(committed, redis_client, settings)


@pytest.fixture
def publisher(stage: Stage) -> Publisher:
    return stage.make_publisher()
