"""Makes the partitions of the weeks to come, drops those whose time is over, warns in time."""

import asyncpg

import sql
from service.db import Pool, create_pool
from service.logs import get_logger
from service.metrics import JANITOR_WARNINGS, PARTITIONS_DROPPED
from service.wakeups import Topic
from workers.expiry import expire_held
from workers.slices import Workshop

ROUND_S = 60.0
LATE_S = 60.0
LOCK_TIMEOUT_S = 1.0
"""Whoever waits for a table's lock holds up all who come after it; the next round tries again."""
ANSWERS_KEPT_S = 24 * 3600.0
"""What clients are promised for an Idempotency-Key."""
ANSWERS_A_PART = 5_000
MOST_PARTS = 200
"""A million a round, more than can come in a minute."""
BUSY = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
log = get_logger("janitor")


class Janitor:
    """One round a minute, the first at once."""

    name = "janitor"
    topics: tuple[Topic, ...] = ()
    idle_s = ROUND_S
    has_all = False

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    async def once(self) -> int:
        """A whole round; 0, for there is nothing more to do before the next."""
        made = await self._shop.pool.fetchval(sql.partition_create_all)
        if made:
            log.info("partitions.made", count=made)
        await expire_held(self._shop.pool, self._shop.settings.webhook_hold_days)
        await self._drop_expired()
        await self._forget_answers()
        await self._warn()
        return 0

    async def close(self) -> None:
        """Nothing is left running."""

    async def _drop_expired(self) -> None:
        settings = self._shop.settings
        expired = await self._shop.pool.fetch(
            sql.partition_list_expired, settings.event_retention_days
        )
        if not expired:
            return
        # A pool of its own, for its sessions are to wait for no lock longer than a moment.
        async with await create_pool(
            settings, "leadlog-janitor", 1, lock_timeout_s=LOCK_TIMEOUT_S
        ) as pool:
            for row in expired:
                await drop_partition(pool, row["name"], row["detach"], row["remove"])

    async def _forget_answers(self) -> None:
        """In parts, so that no row is locked for long."""
        for _ in range(MOST_PARTS):
            gone = await self._shop.pool.fetch(
                sql.idempotent_answer_delete_expired, ANSWERS_KEPT_S, ANSWERS_A_PART
            )
            if len(gone) < ANSWERS_A_PART:
                return

    async def _warn(self) -> None:
        pool = self._shop.pool
        for row in await pool.fetch(sql.partition_list_missing):
            _report("partition.missing", table=row["table_name"])
        for row in await pool.fetch(sql.reader_lag):
            if row["lag_s"] > LATE_S:
                _report("reader.late", reader=row["name"], lag_s=round(row["lag_s"], 1))
        age_s = await pool.fetchval(sql.log_get_old_writer, LATE_S)
        if age_s is not None:
            _report("transaction.old", age_s=round(age_s))


async def drop_partition(pool: Pool, name: str, detach: str | None, remove: str) -> None:
    """Takes a partition away without holding up those who write; if it is in use, another time.

    Detaching commits in the middle, so each statement stands alone: what one round has begun, the
    next goes on with.
    """
    try:
        if detach is not None:
            await pool.execute(detach)
        await pool.execute(remove)
    except BUSY as error:
        log.warning("partition.busy", partition=name, error=str(error))
        return
    PARTITIONS_DROPPED.inc()
    log.info("partition.dropped", partition=name)


def _report(warning: str, **facts: str | float) -> None:
    JANITOR_WARNINGS.labels(warning).inc()
    log.warning(warning, **facts)
