"""Finds the rows that a statement reads, in its executed plan or in PostgreSQL's counters."""

import json
from collections.abc import Iterator
from typing import Any

from service.database.connect import Connection


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from walk(child)


async def explain(
    conn: Connection, plans: str, text: str, arguments: list[Any]
) -> list[dict[str, Any]]:
    """The nodes of the executed plan."""
    types = [parameter.name for parameter in (await conn.prepare(text)).get_parameters()]
    literals = [
        await conn.fetchval(f"SELECT quote_nullable($1::{type_name}::text)", argument)
        for type_name, argument in zip(types, arguments, strict=True)
    ]
    async with conn.transaction():
        await conn.execute(f"SET LOCAL plan_cache_mode = {plans}")
        await conn.execute(f"PREPARE explained ({', '.join(types)}) AS {text}")
        found = await conn.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE explained ({', '.join(literals)})"
        )
        await conn.execute("DEALLOCATE explained")
    return [node for node in walk(json.loads(found)[0]["Plan"]) if node["Actual Loops"]]


LEAD_TABLES = {"lead", "lead_score", "lead_search"}


def find_scans(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nodes that read a table of leads."""
    return [node for node in nodes if node.get("Relation Name") in LEAD_TABLES]


def count_rows(nodes: list[dict[str, Any]], *indexes: str) -> float:
    """The leads that were read (by these indexes, if given), including those filtered out."""
    rows: float = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in find_scans(nodes)
        if not indexes or node.get("Index Name") in indexes
    )
    return rows


async def read_counters(conn: Connection) -> dict[str, int]:
    """The rows that this transaction and its functions have read so far, by table."""
    rows = await conn.fetch(
        "SELECT relname, seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables "
        "WHERE relname IN ('lead', 'lead_score', 'lead_search', 'lead_word')"
    )
    return {
        **{f"{row['relname']} by seq": row["seq_tup_read"] for row in rows},
        **{row["relname"]: row["idx_tup_fetch"] for row in rows},
    }
