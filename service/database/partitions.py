"""Create weekly partitions that are missing when a row is written.

`leadlog migrate` and the janitor create them ahead; one is missing if a clock was set to another
week, or if no worker ran.
"""

import asyncpg

import sql
from service.database.connect import Pool


def is_partition_missing(error: BaseException) -> bool:
    """Whether a row had no partition; nothing was written, so the statement can be repeated."""
    return isinstance(error, asyncpg.CheckViolationError) and str(error).startswith("no partition")


async def make_missing_partitions(pool: Pool) -> None:
    """Create the partitions of this week and the next ones, by the database's clock."""
    await pool.execute(sql.partition_create_if_missing)
