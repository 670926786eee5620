"""Stores the results of attempts, many in one statement.

Retries while the database is away: until its lease expires, no other process sends the delivery.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

import msgspec
from asyncpg import CheckViolationError, Record

import sql
from service.database.batching import Batcher
from service.database.connect import DATABASE_AWAY, Pool
from service.database.partitions import is_partition_missing, make_missing_partitions
from service.errors import Unavailable
from workers.delivery.retry import Decision
from workers.delivery.sender import Attempt, EndpointConfig

WRITE_ERRORS: tuple[type[Exception], ...] = (*DATABASE_AWAY, Unavailable)
"""The errors that `write` raises after RETRY_FOR_S."""
RETRY_FOR_S = 25.0
"""Less than the time by which a lease outlasts the longest attempt (claims.LEASE_MARGIN_S)."""
RETRY_PAUSE_S = 0.25
MAX_BATCH = 300

Settled = Literal["settled", "made_next_due"] | None
"""`made_next_due`: the next delivery of the same lead became due. None: the lease was lost."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery with its fencing token, its attempt and the decision that follows."""

    delivery_id: int
    token: int
    number: int
    endpoint: EndpointConfig
    attempt: Attempt
    decision: Decision


class SettlementWriter:
    """Writes the settlements of one dispatcher."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._batcher: Batcher[Settlement, Settled] = Batcher(
            self._write_many, max_batch=MAX_BATCH, lanes=2
        )

    async def write(self, settlement: Settlement) -> Settled:
        """Stores a settlement, in a batch with others. Raises one of WRITE_ERRORS."""
        loop = asyncio.get_running_loop()
        end = loop.time() + RETRY_FOR_S
        while True:
            try:
                return await self._batcher.submit(settlement)
            except WRITE_ERRORS:
                if loop.time() > end:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)

    async def _write_many(self, batch: list[Settlement]) -> Sequence[Settled]:
        rows = await self._fetch(batch)
        settled: dict[int, Settled] = {
            row["id"]: "made_next_due" if row["calls"] else "settled" for row in rows
        }
        return [settled.get(settlement.delivery_id) for settlement in batch]

    async def _fetch(self, batch: list[Settlement]) -> list[Record]:
        """Stores a batch; if a partition is missing, creates it and tries once more."""
        try:
            return await self._pool.fetch(sql.delivery_settle_many, *_to_columns(batch))
        except CheckViolationError as error:
            if not is_partition_missing(error):
                raise
        await make_missing_partitions(self._pool)
        return await self._pool.fetch(sql.delivery_settle_many, *_to_columns(batch))


def _to_columns(batch: list[Settlement]) -> Sequence[Sequence[object]]:
    attempts = [settlement.attempt for settlement in batch]
    now = time.monotonic()
    return (
        [settlement.delivery_id for settlement in batch],
        [settlement.token for settlement in batch],
        [settlement.decision.outcome for settlement in batch],
        [settlement.decision.due_in_s for settlement in batch],
        [settlement.decision.budget_s for settlement in batch],
        [settlement.number for settlement in batch],
        [now - attempt.started_at for attempt in attempts],
        [attempt.status for attempt in attempts],
        [attempt.error for attempt in attempts],
        [attempt.dns_ms for attempt in attempts],
        [attempt.connect_ms for attempt in attempts],
        [attempt.wait_ms for attempt in attempts],
        [attempt.total_ms for attempt in attempts],
        [attempt.body for attempt in attempts],
        [attempt.truncated for attempt in attempts],
        [settlement.endpoint.tenant_id for settlement in batch],
        [settlement.endpoint.live for settlement in batch],
        [settlement.endpoint.id for settlement in batch],
    )
