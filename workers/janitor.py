"""Makes future partitions, drops expired ones, deletes old responses, and warns of problems."""

import time

import asyncpg

import sql
from service.database.connect import Pool, create_pool
from service.telemetry.logging import get_logger
from service.telemetry.metrics import JANITOR_WARNINGS, PARTITIONS_DROPPED
from workers.delivery.expiry import expire_held
from workers.jobs import Job, WorkerContext

ROUND_S = 60.0
LATE_S = 60.0
LOCK_TIMEOUT_S = 1.0
"""A waiting table lock delays every later statement on the table; the next round tries again."""
RESPONSES_KEPT_S = 24 * 3600.0
"""The documented lifetime of an Idempotency-Key."""
RESPONSE_BATCH = 5_000
MAX_BATCHES = 200
"""A million stored responses in a round, more than can be added in a minute."""
CHECK_EVERY_S = 3600.0
CHECK_TIMEOUT_S = 600
BUSY = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
TAKEN = (asyncpg.UndefinedTableError, asyncpg.ObjectNotInPrerequisiteStateError)
"""Another janitor detaches or drops the partition at the same time, as in two worker processes."""
log = get_logger("janitor")


class Janitor(Job):
    """Runs one round a minute, the first at once."""

    name = "janitor"
    idle_s = ROUND_S

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._checked_at: dict[str, float] = {}
        """When a partition was last found to have young rows, by time.monotonic."""

    async def once(self) -> int:
        """Runs one round. Returns 0, because the next round can wait."""
        made = await self._context.pool.fetchval(sql.partition_create_all)
        if made:
            log.info("partitions.made", count=made)
        async with self._context.pool.acquire() as conn:
            await self._context.clock.compare(conn)
        if self._context.clock.disagrees:  # rows that seem expired may be young
            _warn("clock.wrong", database_is_ahead_s=round(self._context.clock.skew_s))
        else:
            await expire_held(self._context.pool, self._context.settings.webhook_hold_days)
            await self._drop_expired_partitions()
            await self._delete_expired_responses()
        await self._check()
        return 0

    async def _drop_expired_partitions(self) -> None:
        settings = self._context.settings
        expired = await self._context.pool.fetch(
            sql.partition_list_expired, settings.event_retention_days
        )
        if not expired:
            return
        # A separate pool, because only these sessions need the short lock timeout.
        async with await create_pool(
            settings, "leadlog-janitor", 1, lock_timeout_s=LOCK_TIMEOUT_S
        ) as pool:
            for row in expired:
                if row["has_readers"] and await self._has_young_rows(pool, row):
                    continue
                await drop_partition(pool, row["name"], row["detach"], row["remove"])

    async def _has_young_rows(self, pool: Pool, row: asyncpg.Record) -> bool:
        """Whether rows were written while the clock was behind, so that they only seem old.

        Such a partition is checked again after CHECK_EVERY_S, since a check may read all of it.
        """
        name, now = row["name"], time.monotonic()
        if name in self._checked_at and now - self._checked_at[name] < CHECK_EVERY_S:
            return True
        arguments = row["table_name"], row["since"], row["kept_from"]
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute(sql.partition_begin_check, CHECK_TIMEOUT_S)
            is_young: bool = await conn.fetchval(
                sql.partition_has_young_rows, *arguments, timeout=CHECK_TIMEOUT_S
            )
        if is_young:
            log.warning("partition.young", partition=name)
            self._checked_at[name] = now
        return is_young

    async def _delete_expired_responses(self) -> None:
        """Deletes in batches, so that no row is locked for long."""
        for _ in range(MAX_BATCHES):
            deleted = await self._context.pool.fetch(
                sql.idempotent_response_delete_expired, RESPONSES_KEPT_S, RESPONSE_BATCH
            )
            if len(deleted) < RESPONSE_BATCH:
                return

    async def _check(self) -> None:
        pool = self._context.pool
        for row in await pool.fetch(sql.partition_list_missing):
            _warn("partition.missing", table=row["table_name"])
        for row in await pool.fetch(sql.reader_lag):
            if row["lag_s"] > LATE_S:
                _warn("reader.late", reader=row["name"], lag_s=round(row["lag_s"], 1))
        age_s = await pool.fetchval(sql.log_get_old_writer, LATE_S)
        if age_s is not None:
            _warn("transaction.old", age_s=round(age_s))


async def drop_partition(pool: Pool, name: str, detach: str | None, remove: str) -> None:
    """Drops a partition without delaying writers; leaves a busy one to the next round.

    Detaching commits in the middle, so each statement runs outside a transaction, and a later round
    can continue after an interruption.
    """
    try:
        if detach is not None:
            await pool.execute(detach)
        await pool.execute(remove)
    except BUSY as error:
        log.warning("partition.busy", partition=name, error=str(error))
        return
    except TAKEN as error:
        log.info("partition.taken", partition=name, error=str(error))
        return
    PARTITIONS_DROPPED.inc()
    log.info("partition.dropped", partition=name)


def _warn(warning: str, **facts: str | float) -> None:
    JANITOR_WARNINGS.labels(warning).inc()
    log.warning(warning, **facts)
