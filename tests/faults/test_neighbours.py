"""Hostile endpoints of every known kind, all at once, do not delay healthy endpoints."""

import json

import asyncpg

from service.database.connect import Pool
from service.settings import Settings
from tests.bench.webhooks.neighbours import measure_beside, run_worker
from tests.bench.webhooks.stage import find_percentile, start

RATE, SECONDS, HEALTHY = 80.0, 3.0, 4
RATIO, BOUND_MS = 5.0, 1500.0
"""Generous, for a busy machine. Endpoints that wait for each other would take many seconds."""


async def test_hostile_receivers_do_not_delay_their_neighbours(
    committed: Pool, settings: Settings
) -> None:
    assert await committed.fetchval("SELECT count(*) FROM endpoint") == 0
    async with (
        start(settings, "-m", "tests.bench.webhooks.sink") as sink,
        start(settings, "-m", "tests.bench.webhooks.misbehaving_receivers") as receivers,
        run_worker(settings),
    ):
        port, hostile_urls = await sink.read_line(), json.loads(await receivers.read_line())
        conn = await asyncpg.connect(settings.require_database_url())
        alone, beside = [
            find_percentile(
                await measure_beside(
                    conn, settings, sink, port, urls, RATE, SECONDS, healthy=HEALTHY
                ),
                99,
            )
            for urls in ([], list(hostile_urls.values()))
        ]
        tried = await conn.fetchval(
            "SELECT count(DISTINCT endpoint_id) FROM attempt WHERE error IS NOT NULL"
        )
        await conn.close()
    assert tried > len(hostile_urls) / 2  # the hostile endpoints were tried
    assert beside <= max(RATIO * alone, BOUND_MS), (alone, beside)
