"""Makes old weekly partitions."""

from datetime import UTC, datetime, timedelta

from service.database.connect import Pool

WEEK = timedelta(days=7)


def week_of(days_ago: float) -> datetime:
    """The Monday of the week `days_ago` days ago."""
    day = datetime.now(UTC) - timedelta(days=days_ago)
    return (day - timedelta(days=day.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)


async def add_partition(pool: Pool, table: str, days_ago: float) -> str:
    week = week_of(days_ago)
    name = f"{table}_{week:%Y%m%d}"
    await pool.execute(
        f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{week}') TO ('{week + WEEK}')"
    )
    return name


async def exists(pool: Pool, name: str) -> bool:
    found: bool = await pool.fetchval("SELECT to_regclass($1) IS NOT NULL", name)
    return found
