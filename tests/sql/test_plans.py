"""Lists and search cost what they show or match, not what the table holds.

On 100,000 leads (`make plans`: on a million), with plans for the values and with plans for any
values, for PostgreSQL changes from one to the other after five runs.
"""

import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

import sql
from service.auth import Principal
from service.db import Connection
from service.lead_lists import (
    MOST_LOOKED_AT,
    ListQuery,
    choose_finder,
    make_list_statement,
    make_parameters,
)
from service.list_statements import make_browse
from service.validation import decode_query
from sql.compose import Statement
from tests.bench.fill import FEW, fill_leads
from tests.cluster import Cluster

LEADS = int(os.environ.get("PLAN_LEADS", "100000"))
WHO = Principal("key", 1, True, "read")
SMALL = 2
"""A tenant with a handful of leads beside the one with all the others."""
PLANS = pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])


@pytest.fixture(scope="module")
async def filled(cluster: Cluster) -> AsyncIterator[Connection]:
    async with cluster.make_database() as dsn:
        conn = await asyncpg.connect(dsn, server_settings={"jit": "off"}, timeout=600)
        await fill_leads(conn, WHO.tenant_id, LEADS)
        await conn.execute(_COPY_SOME, WHO.tenant_id, SMALL)
        yield conn
        await conn.close()


_COPY_SOME = """
INSERT INTO lead (
    tenant_id, live, id, email, email_key, name, company, status, source, first_seen_at,
    last_active_at, created_at, updated_at)
SELECT $2, live, id, email, email_key, name, company, status, source, first_seen_at,
    last_active_at, created_at, updated_at
FROM lead WHERE tenant_id = $1 ORDER BY id LIMIT 20
"""


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from walk(child)


async def explain(
    conn: Connection, plans: str, text: str, arguments: list[Any]
) -> list[dict[str, Any]]:
    """The nodes of the plan as it ran."""
    types = [parameter.name for parameter in (await conn.prepare(text)).get_parameters()]
    literals = [
        await conn.fetchval(f"SELECT quote_nullable($1::{kind}::text)", argument)
        for kind, argument in zip(types, arguments, strict=True)
    ]
    async with conn.transaction():
        await conn.execute(f"SET LOCAL plan_cache_mode = {plans}")
        await conn.execute(f"PREPARE looked_at ({', '.join(types)}) AS {text}")
        found = await conn.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE looked_at ({', '.join(literals)})"
        )
        await conn.execute("DEALLOCATE looked_at")
    return [node for node in walk(json.loads(found)[0]["Plan"]) if node["Actual Loops"]]


def find_scans(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that read a table of leads."""
    return [node for node in nodes if node.get("Relation Name") in {"lead", "lead_search"}]


def count_rows(nodes: list[dict[str, Any]], *indexes: str) -> float:
    """The leads that were read, by these indexes if named, those thrown away included."""
    rows: float = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in find_scans(nodes)
        if not indexes or node.get("Index Name") in indexes
    )
    return rows


def read_query(text: str) -> tuple[ListQuery, Statement, list[Any]]:
    pairs = [tuple(pair.split("=", 1)) for pair in text.split("&") if pair]
    query = decode_query([(name, value) for name, value in pairs], ListQuery)
    statement = make_list_statement(query)
    return query, statement, statement.bind(make_parameters(WHO, query, None))


@PLANS
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("sort_by", "column"),
    [("createdAt", "created_at"), ("updatedAt", "updated_at"), ("score", "score")],
)
@pytest.mark.parametrize("kind", ["", "status=qualified", "source=chat", "status=lost&source=api"])
async def test_a_page_reads_the_rows_that_it_shows(
    filled: Connection, plans: str, order: str, sort_by: str, column: str, kind: str
) -> None:
    for limit in (25, 100):
        text = f"{kind}&sortBy={sort_by}&sortOrder={order}&limit={limit}"
        _, statement, arguments = read_query(text)
        nodes = await explain(filled, plans, statement.text, arguments)
        index = f"lead_by_kind_{column}" if kind else f"lead_by_{column}"
        assert {node.get("Index Name") for node in find_scans(nodes)} == {index, "lead_pkey"}
        shown = limit + 1  # and one more, to know whether there are more
        assert count_rows(nodes, "lead_pkey") == limit
        assert count_rows(nodes, index) <= shown + 4  # the best of each kind that is merged
        if limit == 100 or not kind:
            assert count_rows(nodes, index) <= 1.2 * limit


@PLANS
async def test_a_page_behind_a_cursor_costs_what_the_first_does(
    filled: Connection, plans: str
) -> None:
    for text in ("", "status=new", "sortBy=score", "sortBy=updatedAt&sortOrder=asc&source=form"):
        query, statement, _ = read_query(text)
        values = make_parameters(WHO, query, None)
        middle = await filled.fetchrow(
            "SELECT created_at, updated_at, score, id FROM lead WHERE tenant_id = $1 "
            "ORDER BY created_at OFFSET $2 LIMIT 1", WHO.tenant_id, LEADS // 2,
        )  # fmt: skip
        assert middle is not None
        column = {"createdAt": "created_at", "updatedAt": "updated_at"}.get(query.sort_by, "score")
        values |= {"start": middle[column], "start_id": middle["id"]}
        nodes = await explain(filled, plans, statement.text, statement.bind(values))
        assert count_rows(nodes) <= 2 * (query.limit + 1) + 4


KEYS, EMAIL = "lead_search_tokens", "lead_email_key"
FILTERS = {
    "tag=enterprise": KEYS,
    "assignedTo=user_3": KEYS,
    "customFields[industry]=SaaS&customFields[teamSize]=1-9": KEYS,
    "customFields[industry]=a=b": KEYS,
    "email=ander@x.com": EMAIL,
    "minScore=95": "score",
    "maxScore=1": "score",
    "createdAfter=2000-01-01&createdBefore=2001-01-01": "created_at",
    "updatedAfter=2100-01-01": "updated_at",
}
"""Each filter alone, and the index that finds its leads: by name, or by the column of its range."""
TOGETHER = {
    "tag=enterprise&minScore=50": KEYS,
    "assignedTo=user_3&updatedAfter=2000-01-01": KEYS,
    "email=ander@x.com&minScore=3": EMAIL,
    "minScore=90&createdAfter=2000-01-01&updatedAfter=2100-01-01": "updated_at",
    "minScore=90&createdAfter=2100-01-01": "created_at",
}


@PLANS
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort_by", ["createdAt", "updatedAt", "score"])
@pytest.mark.parametrize("kind", ["", "status=new", "source=chat&status=lost"])
async def test_other_filters_cost_what_they_match_in_every_sort(
    filled: Connection, plans: str, order: str, sort_by: str, kind: str
) -> None:
    for text, found_by in (FILTERS | TOGETHER).items():
        whole = "&".join((text, kind, f"sortBy={sort_by}&sortOrder={order}"))
        query, statement, arguments = read_query(whole)
        nodes = await explain(filled, plans, statement.text, arguments)
        names = {node["Index Name"] for node in nodes if "Index Name" in node}
        # Of a range that holds nothing either index knows so.
        indexes = {found_by, f"lead_by_{found_by}", f"lead_by_kind_{found_by}"}
        assert indexes & names, whole
        assert "Seq Scan" not in {node["Node Type"] for node in find_scans(nodes)}, whole
        if text in FILTERS and not (kind and found_by in (KEYS, EMAIL)):
            row = await filled.fetchrow(statement.text, *arguments)
            assert row is not None
            ways = 2 if choose_finder(query) == ("by_keys_and_row", "filter_all") else 1
            read = count_rows(nodes) - min(row["found"], query.limit)
            assert read <= 1.2 * ways * row["total"] + query.limit + 1 + 4, whole


@PLANS
@pytest.mark.parametrize("text", [text for text in FILTERS if "Score" not in text])
async def test_a_list_with_many_matches_is_browsed_in_its_order(
    filled: Connection, plans: str, text: str
) -> None:
    query = read_query(f"{text}&sortBy=score")[0]
    finder = choose_finder(query)
    assert finder is not None
    statement = make_browse("score", "desc", *finder, by_kind=False)
    arguments = statement.bind(make_parameters(WHO, query, None))
    nodes = await explain(filled, plans, statement.text, arguments)
    assert "Seq Scan" not in {node["Node Type"] for node in find_scans(nodes)}
    assert count_rows(nodes, "lead_by_score") <= MOST_LOOKED_AT


async def test_the_total_of_status_and_source_reads_counters_only(filled: Connection) -> None:
    _, statement, arguments = read_query("status=qualified&source=chat&page=1000000")
    nodes = await explain(filled, "force_generic_plan", statement.text, arguments)
    assert count_rows(nodes) == 0
    rows = await filled.fetch(statement.text, *arguments)
    counted = await filled.fetchval(
        "SELECT count(*) FROM lead WHERE tenant_id = 1 AND status = 'qualified' AND source = 'chat'"
    )
    assert rows[0]["total"] == counted


async def measure(conn: Connection, tenant_id: int, q: str) -> tuple[int, dict[str, int]]:
    """Hits of a search, and the rows that it read by table; sequential scans are refused."""
    async with conn.transaction():
        before = await read_counters(conn)
        rows = await conn.fetch(
            sql.lead_search_find, tenant_id, True, q, None, 10_000, None, None, None, 0, 26, 25
        )
        after = await read_counters(conn)
    read = {table: after[table] - before[table] for table in after}
    assert [table for table in read if table.endswith(" by seq") and read[table]] == []
    return rows[0]["found"], read


async def read_counters(conn: Connection) -> dict[str, int]:
    """What this transaction has read so far, its functions included."""
    rows = await conn.fetch(
        "SELECT relname, seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables "
        "WHERE relname IN ('lead', 'lead_search', 'lead_word')"
    )
    return {
        **{f"{row['relname']} by seq": row["seq_tup_read"] for row in rows},
        **{row["relname"]: row["idx_tup_fetch"] for row in rows},
    }


@pytest.mark.parametrize(
    "q", [FEW[0], FEW[5], "SaaS 10-25", f"sarah {FEW[7]}", "zzzz", "an", "ström"]
)
async def test_a_search_reads_what_it_finds_and_no_table(filled: Connection, q: str) -> None:
    found, read = await measure(filled, WHO.tenant_id, q)
    if found <= 10_000:
        assert read["lead_search"] <= 1.2 * max(found, 100) + 26 or " " in q
    assert read["lead"] <= 26
    assert read["lead_word"] <= 5_000


@pytest.mark.parametrize("q", ["an", "solutions", "gmail", "acme", "son", "sara", "jaems"])
async def test_a_small_tenant_does_not_pay_for_a_large_one(filled: Connection, q: str) -> None:
    found, read = await measure(filled, SMALL, q)
    assert found <= 20
    assert read["lead_search"] <= 60
    assert read["lead_word"] <= 500
