"""Reads what a run has done to PostgreSQL. A figure that a tree does not have is None or empty."""

from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import TypeVar

import asyncpg
import msgspec

from tests.bench.pipeline.stage import RUN, Running
from tests.bench.pipeline.statements import Names, Statement, merge_statements

_STATEMENTS = """
SELECT s.query, s.calls, s.rows, s.plans, s.total_plan_time AS plan_ms,
    s.total_exec_time AS exec_ms, s.wal_bytes::bigint AS wal_bytes, s.toplevel AS top_level
FROM pg_stat_statements s
JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid
WHERE d.datname = $1 AND r.rolname = 'leadlog'
"""
_COUNTS = ("calls", "rows", "plans", "plan_ms", "exec_ms", "wal_bytes", "top_level")
_SIZES = """
SELECT coalesce(pg_partition_root(c.oid), c.oid)::regclass::text AS name,
    sum(pg_table_size(c.oid))::bigint AS table_bytes,
    sum(pg_indexes_size(c.oid))::bigint AS index_bytes
FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
GROUP BY 1
"""
_SCORE = """
SELECT percentile_cont('{0.5,0.99}'::float8[]) WITHIN GROUP (
    ORDER BY extract(epoch FROM e.scored_at - e.created_at) * 1000)
FROM (
    SELECT min(at) FILTER (WHERE type = 'lead.created') AS created_at,
        min(at) FILTER (WHERE actor = 'scorer') AS scored_at
    FROM outbox WHERE at >= $1 GROUP BY lead_id HAVING count(*) = 2
) AS e
"""
_PENDING = "SELECT EXISTS (SELECT FROM delivery)"

T = TypeVar("T")


class Size(msgspec.Struct, frozen=True):
    """The bytes of a table with its TOAST table, and of its indexes; partitions together."""

    table: int
    index: int


class Latency(msgspec.Struct, frozen=True):
    """Percentiles in ms."""

    p50_ms: float
    p99_ms: float


async def reset_statements(running: Running) -> None:
    if running.side.has_statements:
        await running.side.admin.execute("SELECT pg_stat_statements_reset()")


async def read_statements(running: Running) -> list[Statement]:
    """The statements of the service and the worker since the reset, not those of the bench."""
    if not running.side.has_statements:
        return []
    rows = await running.side.admin.fetch(_STATEMENTS, RUN)
    names = Names(running.side.statements)
    return merge_statements(
        Statement(name=names.find(query or ""), **dict(zip(_COUNTS, counts, strict=True)))
        for query, *counts in rows
    )


async def read_lags(running: Running) -> dict[str, float] | None:
    """The seconds that each reader is behind; None if the tree has no such statement."""
    statement = running.side.statements.get("reader_lag")
    if statement is None:
        return None
    rows = await tolerate(running.conn.fetch(statement))
    return None if rows is None else {row["name"]: row["lag_s"] for row in rows}


async def has_pending_deliveries(running: Running) -> bool:
    return bool(await tolerate(running.conn.fetchval(_PENDING)))


async def read_sizes(running: Running) -> dict[str, Size]:
    rows = await running.conn.fetch(_SIZES)
    return {row["name"]: Size(row["table_bytes"], row["index_bytes"]) for row in rows}


def subtract_sizes(later: Mapping[str, Size], earlier: Mapping[str, Size]) -> dict[str, Size]:
    """The growth of each table that has grown, the largest first. Pure."""
    zero = Size(0, 0)
    grown = {
        name: Size(size.table - before.table, size.index - before.index)
        for name, size in later.items()
        for before in (earlier.get(name, zero),)
        if size != before
    }
    return dict(sorted(grown.items(), key=lambda item: -item[1].table - item[1].index))


async def read_wal_position(running: Running) -> int:
    """Bytes of WAL since the creation of the cluster, of all its databases."""
    position: int = await running.conn.fetchval(
        "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"
    )
    return position


async def read_clock(running: Running) -> datetime:
    at: datetime = await running.conn.fetchval("SELECT clock_timestamp()")
    return at


async def count_leads(running: Running) -> int:
    count: int = await running.conn.fetchval("SELECT count(*) FROM lead")
    return count


async def read_score_latency(running: Running, since: datetime) -> Latency | None:
    """From the creation to the first score, of the leads of the run that nobody has changed."""
    found = await tolerate(running.conn.fetchval(_SCORE, since))
    return Latency(*found) if found else None


async def read_generation(running: Running) -> int:
    """The generation of the log, which is in the names of the streams."""
    return int(await tolerate(running.conn.fetchval("SELECT generation FROM ticker")) or 1)


async def tolerate(reading: Awaitable[T]) -> T | None:
    """The result of a statement; None if the tree has another schema."""
    try:
        return await reading
    except (asyncpg.SyntaxOrAccessError, asyncpg.InvalidTextRepresentationError):
        return None
