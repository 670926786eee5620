"""The cost of lists and search depends on the returned or matching rows, not on the table's size.

The table has 100,000 leads (`make plans`: a million). The tests run with custom and generic plans,
because PostgreSQL may change from one to the other after five executions.
"""

import os
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

import sql
from service.access.authentication import Principal
from service.database.connect import Connection
from service.leads.listing.access_paths import FEW as FEW_ENTRIES
from service.leads.listing.access_paths import RANGES, choose_access_path, list_access_paths
from service.leads.listing.pages import (
    ALL,
    MOST_SCANNED,
    make_list_filtered_scan,
    make_list_ordered_scan,
    make_list_sorted_matches,
    make_parameters,
)
from service.leads.listing.query import ListQuery
from service.leads.listing.statements import make_count, make_estimate
from service.leads.search.estimates import MIN_SAMPLE_SIZE, SAMPLE_SIZE
from service.validation.decoding import decode_query
from sql.compose import Statement
from tests.bench.fill import FEW, fill_leads
from tests.harness.cluster import Cluster
from tests.sql.explaining import count_rows, explain, find_scans, read_counters

LEADS = int(os.environ.get("PLAN_LEADS", "100000"))
WHO = Principal("key", 1, True, "read")
SMALL = 2
"""A tenant with 20 leads, beside the tenant with nearly all leads."""
MIDDLE = 3
"""A tenant with so few leads that a sample of the table has too few of them."""
SETTINGS = {"jit": "off", "max_parallel_workers_per_gather": "0"}
"""Like service.database.connect, but sequential scans are allowed: the plans must avoid them.
"""
PLANS = pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])


@pytest.fixture(scope="module")
async def filled(cluster: Cluster) -> AsyncIterator[Connection]:
    async with cluster.make_database() as dsn:
        conn = await asyncpg.connect(dsn, server_settings=SETTINGS, timeout=600)
        await fill_leads(conn, WHO.tenant_id, LEADS)
        await conn.execute(_COPY_SOME, WHO.tenant_id, SMALL, 20)
        await conn.execute(_COPY_SOME, WHO.tenant_id, MIDDLE, 3_000)
        await conn.execute("ANALYZE lead, lead_score, lead_search")
        yield conn
        await conn.close()


_COPY_SOME = """
INSERT INTO lead (
    tenant_id, live, id, email, email_key, name, company, status, source, first_seen_at,
    last_active_at, created_at, updated_at)
SELECT $2, live, id, email, email_key, name, company, status, source, first_seen_at,
    last_active_at, created_at, updated_at
FROM lead WHERE tenant_id = $1 ORDER BY id LIMIT $3
"""


def parse(text: str) -> tuple[ListQuery, dict[str, Any]]:
    """A query and the values of its parameters."""
    pairs = [tuple(pair.split("=", 1)) for pair in text.split("&") if pair]
    query = decode_query([(name, value) for name, value in pairs], ListQuery)
    return query, make_parameters(WHO, query, None)


TWO_ROWS_PER_MATCH = ("by_keys_and_row", "by_score_and_row")
"""Access paths that find a lead in another table."""


async def choose_statement(
    conn: Connection, query: ListQuery, values: dict[str, Any]
) -> tuple[Statement, int]:
    """The first statement of a list, and the number of rows that it reads per match."""
    if not list_access_paths(query):
        return make_list_ordered_scan(query), 1
    path = await choose_access_path(conn, query, values)
    return make_list_sorted_matches(query, path), 2 if path[0] in TWO_ROWS_PER_MATCH else 1


@PLANS
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("sort_by", "column"),
    [("createdAt", "created_at"), ("updatedAt", "updated_at"), ("score", "score")],
)
@pytest.mark.parametrize(
    "status_source", ["", "status=qualified", "source=chat", "status=lost&source=api"]
)
async def test_a_page_reads_only_the_rows_that_it_contains(
    filled: Connection, plans: str, order: str, sort_by: str, column: str, status_source: str
) -> None:
    for limit in (25, 100):
        query, values = parse(f"{status_source}&sortBy={sort_by}&sortOrder={order}&limit={limit}")
        statement = make_list_ordered_scan(query)
        nodes = await explain(filled, plans, statement.text, statement.bind(values))
        index = f"lead_by_status_source_{column}" if status_source else f"lead_by_{column}"
        assert {node.get("Index Name") for node in find_scans(nodes)} == {index, "lead_pkey"}
        shown = limit + 1  # one more row shows whether another page follows
        assert count_rows(nodes, "lead_pkey") == limit
        assert count_rows(nodes, index) <= shown + 4  # one row of each branch that is merged
        if limit == 100 or not status_source:
            assert count_rows(nodes, index) <= 1.2 * limit


@PLANS
async def test_a_page_after_a_cursor_costs_the_same_as_the_first(
    filled: Connection, plans: str
) -> None:
    for text in ("", "status=new", "sortBy=score", "sortBy=updatedAt&sortOrder=asc&source=form"):
        query, values = parse(text)
        statement = make_list_ordered_scan(query)
        middle = await filled.fetchrow(
            "SELECT created_at, updated_at, score, id FROM lead WHERE tenant_id = $1 "
            "ORDER BY created_at OFFSET $2 LIMIT 1", WHO.tenant_id, LEADS // 2,
        )  # fmt: skip
        assert middle is not None
        column = {"createdAt": "created_at", "updatedAt": "updated_at"}.get(query.sort_by, "score")
        values |= {"start": middle[column], "start_id": middle["id"]}
        nodes = await explain(filled, plans, statement.text, statement.bind(values))
        assert count_rows(nodes) <= 2 * (query.limit + 1) + 4


@PLANS
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "status_source", ["", "status=qualified", "source=api", "createdAfter=2000-01-01&status=new"]
)
async def test_a_page_is_read_from_the_nearer_end_and_no_page_in_the_middle_is_read(
    filled: Connection, plans: str, order: str, status_source: str
) -> None:
    deepest = LEADS // 20
    first, values = parse(status_source)
    row = await filled.fetchrow(
        make_list_ordered_scan(first).text, *make_list_ordered_scan(first).bind(values)
    )
    assert row is not None
    total, shown = row["total"], first.limit + 1
    counted = total if "After" in status_source else 0
    for skipped, read in (
        (deepest, deepest + shown), (deepest + 1, 0), (total // 2, 0), (total - deepest - 1, 0),
        (total - deepest, deepest), (total - 3, 3), (total, 0), (total + 1_000_000, 0),
    ):  # fmt: skip
        query, values = parse(f"{status_source}&sortOrder={order}&page=100000")
        statement = make_list_ordered_scan(query)
        arguments = statement.bind(values | {"skip": skipped, "most_skipped": deepest})
        nodes = await explain(filled, plans, statement.text, arguments)
        pages = [node for node in nodes if node.get("Index Name") == "lead_pkey"]
        assert count_rows(nodes) - count_rows(pages) - counted <= read + 5, skipped
        assert count_rows(pages) == min(read, total - skipped, first.limit) * (read > 0), skipped


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
"""Each filter, and the index that finds its leads: by name, or by the column of its range."""
TOGETHER: dict[tuple[str, ...], str] = {
    ("tag=enterprise", "minScore=3"): KEYS,
    ("tag=enterprise", "minScore=100"): "score",
    ("assignedTo=user_3", "updatedAfter=2000-01-01"): KEYS,
    ("customFields[industry]=SaaS", "createdAfter=2100-01-01"): "created_at",
    ("email=ander@x.com", "minScore=3"): EMAIL,
    ("minScore=90", "createdAfter=2000-01-01", "updatedAfter=2100-01-01"): "updated_at",
    ("createdAfter=2000-01-01", "minScore=99"): "score",
    ("updatedAfter=2000-01-01", "createdAfter=2000-01-01", "maxScore=0"): "score",
    ("minScore=90", "createdAfter=2100-01-01"): "created_at",
}
"""Combined filters, and the index of the filter with by far the fewest matches."""
STATUS_SOURCES = ("", "status=new", "source=chat&status=lost")


def is_used(nodes: list[dict[str, Any]], found_by: str) -> bool:
    """Whether the plan uses the index, or one of the two indexes of a range."""
    names = {node["Index Name"] for node in nodes if "Index Name" in node}
    # Either index shows that a range is empty.
    return bool({found_by, f"lead_by_{found_by}", f"lead_by_status_source_{found_by}"} & names)


async def count_matches(conn: Connection, text: str) -> int:
    """The exact number of leads in a list."""
    query, values = parse(text)
    statement, _ = await choose_statement(conn, query, values)
    row = await conn.fetchrow(statement.text, *statement.bind(values | {"most_sorted": ALL}))
    assert row is not None
    return int(row["total"])


@PLANS
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort_by", ["createdAt", "updatedAt", "score"])
@pytest.mark.parametrize("status_source", STATUS_SOURCES)
async def test_a_filter_costs_its_matches_in_every_sort(
    filled: Connection, plans: str, order: str, sort_by: str, status_source: str
) -> None:
    for text, found_by in FILTERS.items():
        whole = "&".join((text, status_source, f"sortBy={sort_by}&sortOrder={order}"))
        query, values = parse(whole)
        statement, rows_per_match = await choose_statement(filled, query, values)
        nodes = await explain(filled, plans, statement.text, statement.bind(values))
        assert "Seq Scan" not in {node["Node Type"] for node in find_scans(nodes)}, whole
        row = await filled.fetchrow(statement.text, *statement.bind(values))
        assert row is not None
        most = row["total"]
        if status_source and found_by == KEYS:  # no index combines keys with status and source
            most = bound_together(
                [await count_matches(filled, each) for each in (text, status_source)]
            )
        else:
            assert is_used(nodes, found_by), whole
        read = count_rows(nodes) - min(row["found"], query.limit)
        assert read <= 1.2 * rows_per_match * most + query.limit + 1 + 4, whole


def bound_together(matches: list[int]) -> int:
    """The limit of the rows read for combined filters with these numbers of matches."""
    fewest = min(matches)
    return fewest if fewest <= FEW_ENTRIES else 10 * fewest


@PLANS
@pytest.mark.parametrize("sort_by", ["createdAt", "updatedAt", "score"])
@pytest.mark.parametrize("status_source", STATUS_SOURCES)
async def test_combined_filters_cost_the_matches_of_the_rarest(
    filled: Connection, plans: str, sort_by: str, status_source: str
) -> None:
    for texts, found_by in TOGETHER.items():
        whole = "&".join((*texts, status_source, f"sortBy={sort_by}"))
        query, values = parse(whole)
        statement, rows_per_match = await choose_statement(filled, query, values)
        nodes = await explain(filled, plans, statement.text, statement.bind(values))
        assert "Seq Scan" not in {node["Node Type"] for node in find_scans(nodes)}, whole
        assert is_used(nodes, found_by) or status_source, whole
        ranges = [text for text in texts if not text.startswith(("tag", "ass", "cus", "email"))]
        alone = [text for text in texts if text not in ranges]
        most = bound_together([
            *[await count_matches(filled, text) for text in alone],
            *[await count_matches(filled, f"{text}&{status_source}") for text in ranges],
        ])  # fmt: skip
        row = await filled.fetchrow(statement.text, *statement.bind(values))
        assert row is not None
        read = count_rows(nodes) - min(row["found"], query.limit)
        assert read <= 1.2 * rows_per_match * most + query.limit + 1 + 4, whole


@PLANS
@pytest.mark.parametrize("status_source", STATUS_SOURCES)
async def test_a_range_is_counted_up_to_the_bound_only(
    filled: Connection, plans: str, status_source: str
) -> None:
    _, values = parse(
        f"createdAfter=2000-01-01&updatedAfter=2000-01-01&minScore=40&{status_source}"
    )
    for path in RANGES.values():
        statement = make_count(path, by_status_source=bool(status_source))
        arguments = statement.bind(values | {"most": 500})
        nodes = await explain(filled, plans, statement.text, arguments)
        assert {node["Node Type"] for node in find_scans(nodes)} == {"Index Only Scan"}
        assert count_rows(nodes) <= 500


@PLANS
async def test_filters_with_many_matches_are_compared_by_a_sample(
    filled: Connection, plans: str
) -> None:
    _, values = parse("tag=enterprise&createdAfter=2000-01-01&minScore=100&status=new")
    estimate = make_estimate()
    nodes = await explain(filled, plans, estimate.text, estimate.bind(values))
    assert [node["Node Type"] for node in find_scans(nodes)] == ["Sample Scan"]
    assert count_rows(nodes) <= 25_000
    row = await filled.fetchrow(estimate.text, *estimate.bind(values))
    assert row is not None
    assert (
        row["by_score"] < 0.1 * row["by_keys"] < row["by_created_at"] < row["by_updated_at"] * 1.1
    )


@PLANS
@pytest.mark.parametrize("text", [text for text in FILTERS if "Score" not in text])
async def test_a_list_with_many_matches_is_scanned_in_its_order(
    filled: Connection, plans: str, text: str
) -> None:
    query, values = parse(f"{text}&sortBy=score")
    statement = make_list_filtered_scan(query, await choose_access_path(filled, query, values))
    nodes = await explain(filled, plans, statement.text, statement.bind(values))
    assert "Seq Scan" not in {node["Node Type"] for node in find_scans(nodes)}
    assert count_rows(nodes, "lead_by_score") <= MOST_SCANNED


async def test_a_total_by_status_and_source_reads_only_counters(filled: Connection) -> None:
    query, values = parse("status=qualified&source=chat&page=1000000")
    statement = make_list_ordered_scan(query)
    arguments = statement.bind(values)
    nodes = await explain(filled, "force_generic_plan", statement.text, arguments)
    assert count_rows(nodes) == 0
    rows = await filled.fetch(statement.text, *arguments)
    counted = await filled.fetchval(
        "SELECT count(*) FROM lead WHERE tenant_id = 1 AND status = 'qualified' AND source = 'chat'"
    )
    assert rows[0]["total"] == counted


async def measure(conn: Connection, tenant_id: int, q: str) -> tuple[int, dict[str, int]]:
    """The hits of a search, and the rows that it read by table; fails on sequential scans."""
    async with conn.transaction():
        before = await read_counters(conn)
        rows = await conn.fetch(
            sql.lead_search_find, tenant_id, True, q, None, 10_000, None, None, None, 0, 26, 25
        )
        after = await read_counters(conn)
    read = {table: after[table] - before[table] for table in after}
    assert [table for table in read if table.endswith(" by seq") and read[table]] == []
    return rows[0]["found"], read


@pytest.mark.parametrize(
    "q", [FEW[0], FEW[5], "SaaS 10-25", f"sarah {FEW[7]}", "zzzz", "an", "ström"]
)
async def test_a_search_reads_its_hits_and_scans_no_table(filled: Connection, q: str) -> None:
    found, read = await measure(filled, WHO.tenant_id, q)
    if found <= 10_000:
        assert read["lead_search"] <= 1.2 * max(found, 100) + 26 or " " in q
    assert read["lead"] <= 26
    assert read["lead_word"] <= 5_000


@pytest.mark.parametrize("q", ["an", "solutions", "gmail", "acme", "son", "sara", "jaems"])
async def test_a_search_of_a_small_tenant_costs_the_same_beside_a_large_tenant(
    filled: Connection, q: str
) -> None:
    found, read = await measure(filled, SMALL, q)
    assert found <= 20
    assert read["lead_search"] <= 60
    assert read["lead_word"] <= 500


TIERS = pytest.mark.parametrize("tier", [0, 1, 2])


@PLANS
@TIERS
async def test_a_filtered_scan_of_a_search_reads_no_more_leads_than_requested(
    filled: Connection, plans: str, tier: int
) -> None:
    for q, codes in (("solutions", None), ("an", (4, 5)), ("zzzz", None)):
        arguments = [WHO.tenant_id, True, q, codes, tier, 2_000, 101, "", 0, 26]
        nodes = await explain(filled, plans, sql.lead_search_filtered_scan, arguments)
        indexes = {node.get("Index Name") for node in find_scans(nodes)}
        assert indexes <= {"lead_by_score", "lead_search_pkey", "lead_pkey"}
        assert count_rows(nodes, "lead_by_score") <= 2_000
        loops = {node.get("Index Name"): node["Actual Loops"] for node in find_scans(nodes)}
        assert loops["lead_search_pkey"] <= 2_000
        assert loops.get("lead_pkey", 0) <= 26


@TIERS
@pytest.mark.parametrize("q", ["solutions", "an", FEW[2], FEW[4][2:]])
async def test_a_search_in_a_tier_reads_its_hits(filled: Connection, q: str, tier: int) -> None:
    matching = await filled.fetchval(
        "SELECT count(*) FROM lead_search WHERE tenant_id = $1 "
        "AND text LIKE '%' || search_fold($2) || '%'",
        WHO.tenant_id, q,
    )  # fmt: skip
    async with filled.transaction():
        before = await read_counters(filled)
        await filled.fetch(
            sql.lead_search_find_in_tier, WHO.tenant_id, True, q, None, tier, ALL, 101, "", 0, 26
        )
        after = await read_counters(filled)
    read = {table: after[table] - before[table] for table in after}
    assert [table for table in read if table.endswith(" by seq") and read[table]] == []
    assert read["lead_search"] <= 1.2 * matching + 26
    assert read["lead"] <= 26
    assert read["lead_word"] <= 5_000


@PLANS
async def test_a_sample_reads_a_part_of_the_table(filled: Connection, plans: str) -> None:
    for tenant_id, leads, most in ((WHO.tenant_id, LEADS, 2 * SAMPLE_SIZE), (SMALL, 20, 25_000)):
        arguments = [tenant_id, True, "solutions", None, SAMPLE_SIZE, leads]
        nodes = await explain(filled, plans, sql.lead_search_sample, arguments)
        assert [node["Node Type"] for node in find_scans(nodes)] == ["Sample Scan"]
        assert count_rows(nodes) <= most


@PLANS
async def test_a_tenant_with_a_small_part_of_the_table_is_sampled_by_runs_of_its_leads(
    filled: Connection, plans: str
) -> None:
    asked = [MIDDLE, True, "solutions", None, SAMPLE_SIZE]
    of_all = await filled.fetchrow(sql.lead_search_sample, *asked, 3_000)
    assert of_all is not None
    assert of_all["sampled"] < MIN_SAMPLE_SIZE
    own = await filled.fetchrow(sql.lead_search_sample_runs, *asked)
    true = await filled.fetchval(
        "SELECT count(*) FROM lead_search WHERE tenant_id = $1 AND text LIKE '% solutions %'",
        MIDDLE,
    )  # fmt: skip
    assert own is not None
    assert 0.8 * SAMPLE_SIZE <= own["sampled"] <= SAMPLE_SIZE
    assert own["whole_words"] / own["sampled"] == pytest.approx(true / 3_000, rel=0.5)
    nodes = await explain(filled, plans, sql.lead_search_sample_runs, asked)
    assert "Seq Scan" not in {node["Node Type"] for node in find_scans(nodes)}
    assert count_rows(nodes, "lead_search_pkey") <= SAMPLE_SIZE
    assert count_rows(nodes) <= SAMPLE_SIZE + 130_000
