"""The cost of batching for a single client: reads through the Batcher and without it."""

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sql
from service.database.batching import Batcher
from service.database.connect import Pool, create_pool
from service.settings import Settings
from tests.bench.plan import Idle
from tests.bench.stage import Database

PAIRS = 1_000
WARM_UP = 200
Key = tuple[int, bool, str, int]
Read = Callable[[Key], Awaitable[Any]]


async def measure_idle(database: Database, rounds: int) -> list[Idle]:
    """One client, one request at a time, on the service's own pool."""
    async with await create_pool(Settings(database_url=database.dsn), "bench") as pool:
        return [await _measure_round(pool, database, number + 1) for number in range(rounds)]


async def _measure_round(pool: Pool, database: Database, number: int) -> Idle:
    async def read_many(keys: list[Key]) -> Sequence[Any]:
        return await pool.fetch(sql.lead_get_many, *zip(*keys, strict=True))

    async def read_direct(key: Key) -> Any:
        return (await read_many([key]))[0]

    batcher: Batcher[Key, Any] = Batcher(read_many)
    seconds: dict[str, list[float]] = {"direct": [], "batched": []}
    rng = random.Random(number)
    for turn in range(WARM_UP + PAIRS):
        pair = [("direct", read_direct), ("batched", batcher.submit)]
        for name, read in pair if turn % 2 else reversed(pair):
            took = await _time(read, database, rng)
            if turn >= WARM_UP:
                seconds[name].append(took)
    return Idle(
        round=number,
        direct_ms=statistics.median(seconds["direct"]) * 1000,
        batched_ms=statistics.median(seconds["batched"]) * 1000,
    )


async def _time(read: Read, database: Database, rng: random.Random) -> float:
    key = (database.tenant_id, True, f"lead_01J{rng.randint(1, database.leads):023d}", 0)
    began = time.perf_counter()
    await read(key)
    return time.perf_counter() - began
