"""Healthy endpoints do not feel it when others are hostile in every way we know, all at once."""

import json

import asyncpg

from service.db import Pool
from service.settings import Settings
from tests.bench.webhooks.neighbours import measure_beside, run_worker
from tests.bench.webhooks.stage import find_percentile, start

RATE, SECONDS, HEALTHY = 80.0, 3.0, 4
RATIO, BOUND_MS = 5.0, 1500.0
"""On a machine that does much else. Where endpoints wait for each other it is many seconds."""


async def test_the_neighbours_of_hostile_receivers_are_served_as_before(
    committed: Pool, settings: Settings
) -> None:
    assert await committed.fetchval("SELECT count(*) FROM endpoint") == 0
    async with (
        start(settings, "-m", "tests.bench.webhooks.sink") as sink,
        start(settings, "-m", "tests.bench.webhooks.villains") as hell,
        run_worker(settings),
    ):
        port, villains = await sink.read_line(), json.loads(await hell.read_line())
        conn = await asyncpg.connect(settings.require_database_url())
        alone, beside = [
            find_percentile(
                await measure_beside(
                    conn, settings, sink, port, urls, RATE, SECONDS, healthy=HEALTHY
                ),
                99,
            )
            for urls in ([], list(villains.values()))
        ]
        tried = await conn.fetchval(
            "SELECT count(DISTINCT endpoint_id) FROM attempt WHERE error IS NOT NULL"
        )
        await conn.close()
    assert tried > len(villains) / 2  # they were there
    assert beside <= max(RATIO * alone, BOUND_MS), (alone, beside)
