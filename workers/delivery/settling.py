"""Writes down how attempts ended, many in one statement.

Tries again while the database is away: until the lease has run out the delivery is ours and nobody
else sends it.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

import sql
from service.batching import Batcher
from service.db import DATABASE_AWAY, Pool
from service.errors import Unavailable
from workers.delivery.retry import Verdict
from workers.delivery.sender import Attempt, Target

UNSETTLED: tuple[type[Exception], ...] = (*DATABASE_AWAY, Unavailable)
"""What `settle` raises when its patience ends."""
PATIENCE_S = 25.0
"""Less than the lease outlasts the longest attempt (dispatcher.LEASE_MARGIN_S)."""
PAUSE_S = 0.25
MAX_BATCH = 300

Settled = Literal["settled", "called"] | None
"""`called`: the next of the same lead has become due by it."""


class Settlement(msgspec.Struct, frozen=True):
    """A delivery under its token, the attempt made and what follows from it."""

    delivery_id: int
    token: int
    number: int
    target: Target
    attempt: Attempt
    verdict: Verdict


class Settler:
    """Settles for one dispatcher."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._batches: Batcher[Settlement, Settled] = Batcher(
            self._settle_many, max_batch=MAX_BATCH, lanes=2
        )

    async def settle(self, settlement: Settlement) -> Settled:
        """None if the lease had been lost. Raises what the database raises once patience ends."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_S
        while True:
            try:
                return await self._batches.submit(settlement)
            except UNSETTLED:
                if loop.time() > end:
                    raise
                await asyncio.sleep(PAUSE_S)

    async def _settle_many(self, batch: list[Settlement]) -> Sequence[Settled]:
        rows = await self._pool.fetch(sql.delivery_settle_many, *_to_columns(batch))
        settled: dict[int, Settled] = {
            row["id"]: "called" if row["calls"] else "settled" for row in rows
        }
        return [settled.get(settlement.delivery_id) for settlement in batch]


def _to_columns(batch: list[Settlement]) -> Sequence[Sequence[object]]:
    attempts = [settlement.attempt for settlement in batch]
    moments: list[datetime] = [attempt.at for attempt in attempts]
    return (
        [settlement.delivery_id for settlement in batch],
        [settlement.token for settlement in batch],
        [settlement.verdict.outcome for settlement in batch],
        [settlement.verdict.due_in_s for settlement in batch],
        [settlement.verdict.budget_s for settlement in batch],
        [settlement.number for settlement in batch],
        moments,
        [attempt.status for attempt in attempts],
        [attempt.error for attempt in attempts],
        [attempt.dns_ms for attempt in attempts],
        [attempt.connect_ms for attempt in attempts],
        [attempt.wait_ms for attempt in attempts],
        [attempt.total_ms for attempt in attempts],
        [attempt.body for attempt in attempts],
        [attempt.truncated for attempt in attempts],
        [settlement.target.tenant_id for settlement in batch],
        [settlement.target.live for settlement in batch],
        [settlement.target.id for settlement in batch],
    )
