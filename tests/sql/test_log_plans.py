"""The cost of frequent reads of the log depends on the rows that they return, not on its length.

The log has 50,000 events in 2,000 windows; a transaction was open for three quarters of them. The
tests run with statistics and without (as in the first hours of a weekly partition), and with
custom and generic plans.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

import sql
from service.database.connect import Connection
from service.events.event_log import SHARDS
from tests.harness.cluster import Cluster
from tests.sql.explaining import walk

EVENTS = 50_000
WINDOWS = 2_000
FIRST = 10
"""The transaction id before that of the first event. Each event has its own transaction."""

LONG = FIRST + 12_000
"""A transaction that is open from here until ten windows before the end."""

_FILL = f"""
CREATE TABLE burnt ();
DO $$ BEGIN
    FOR n IN 1..{EVENTS} LOOP  -- each block draws a transaction id
        BEGIN INSERT INTO burnt DEFAULT VALUES; EXCEPTION WHEN division_by_zero THEN END;
    END LOOP;
END $$;
INSERT INTO outbox (txid, shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
SELECT ({FIRST} + n)::text::xid8, lead_shard('lead' || n % 997), 1, true, 'lead' || n % 997, n / 997,
    'evt_' || n, 'lead.updated', 'key_1', now(), json_build_object('lead', repeat('x', 300))
FROM generate_series(1, {EVENTS}) AS n;
WITH cut AS (
    SELECT 1 + k AS tick, {FIRST} + 1 + k * {EVENTS // WINDOWS} AS xmax FROM generate_series(1, {WINDOWS}) AS k
)
INSERT INTO tick (tick, generation, snap, at)
SELECT tick, 1, CASE WHEN xmax > {LONG} AND tick < {WINDOWS} - 10
    THEN format('%s:%s:%s', {LONG}, xmax, {LONG}) ELSE format('%s:%s:', xmax, xmax)
    END::pg_snapshot, now()
FROM cut;
UPDATE ticker SET (tick, snap) = (SELECT tick, snap FROM tick ORDER BY tick DESC LIMIT 1);
"""  # noqa: E501  # SQL

# Only filled partitions: the planner would always scan a partition whose statistics say empty.
_MAKE_ANALYZE = """
SELECT 'ANALYZE ticker, ' || string_agg(DISTINCT tableoid::regclass::text, ', ')
FROM (SELECT tableoid FROM outbox UNION ALL SELECT tableoid FROM tick) AS filled
"""


@pytest.fixture(scope="module", params=["with statistics", "without statistics"])
async def log(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """A connection to a database with a long log."""
    async with cluster.make_database() as dsn:
        conn = await asyncpg.connect(dsn)
        await conn.execute(_FILL)
        if request.param == "with statistics":
            await conn.execute(await conn.fetchval(_MAKE_ANALYZE))
        yield conn
        await conn.close()


@pytest.fixture(params=["force_custom_plan", "force_generic_plan"])
async def planner(log: Connection, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    transaction = log.transaction()
    await transaction.start()
    await log.execute(f"SET LOCAL plan_cache_mode = {request.param}")
    yield log
    await transaction.rollback()


async def explain(conn: Connection, statement: str, types: str, *arguments: str) -> dict[str, Any]:
    """The executed plan."""
    await conn.execute(f"PREPARE explained ({types}) AS {statement}")
    text = await conn.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE explained ({', '.join(arguments)})"
    )
    await conn.execute("DEALLOCATE explained")
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan


def find_scans(plan: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """The executed nodes that read partitions of a table."""
    return [
        node
        for node in walk(plan)
        if node.get("Relation Name", "").startswith(f"{table}_") and node["Actual Loops"]
    ]


def count_rows(scans: list[dict[str, Any]]) -> float:
    """The rows that were read, including those filtered out."""
    fetched: float = sum(
        (
            node["Actual Rows"]
            + node.get("Rows Removed by Filter", 0)
            + node.get("Rows Removed by Index Recheck", 0)
        )
        * node["Actual Loops"]
        for node in scans
    )
    return fetched


def assert_by_index(scans: list[dict[str, Any]]) -> None:
    types = {node["Node Type"] for node in scans}
    assert types <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, types


READ_TYPES = "bigint, bigint, integer, integer"


@pytest.mark.parametrize("tick", [10, 600, 1_999])
async def test_a_window_costs_its_rows_at_any_position_in_the_log(
    planner: Connection, tick: int
) -> None:
    plan = await explain(planner, sql.window_read_many, READ_TYPES, str(tick), "0", "1000", "1")
    scans = find_scans(plan, "outbox")

    assert plan["Actual Rows"] == EVENTS // WINDOWS
    assert_by_index(scans)
    assert_by_index(find_scans(plan, "tick"))
    assert count_rows(find_scans(plan, "tick")) == 2
    assert count_rows(scans) <= 2 * plan["Actual Rows"] + len(SHARDS)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 1_000


async def test_an_empty_read_at_the_end_of_the_log_is_cheap(
    planner: Connection,
) -> None:
    last = str(WINDOWS + 1)
    plan = await explain(planner, sql.window_read_many, READ_TYPES, last, "0", "1000", "1")

    assert plan["Actual Rows"] == 0
    assert count_rows(find_scans(plan, "tick")) <= 1
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50


async def test_many_windows_cost_their_rows(planner: Connection) -> None:
    plan = await explain(planner, sql.window_read_many, READ_TYPES, "600", "0", "200", "50")
    scans = find_scans(plan, "outbox")

    assert plan["Actual Rows"] == 200
    assert count_rows(find_scans(plan, "tick")) <= 2 * 50
    assert_by_index(scans)
    assert count_rows(scans) <= 50 * EVENTS // WINDOWS * 2


FEED_TYPES = "bigint, bigint, integer, integer, bigint, boolean, text[], text, integer"


@pytest.mark.parametrize(("most_bytes", "events"), [("1048576", 200 + 16), ("1000", 4)])
async def test_a_page_of_the_feed_costs_its_windows_whatever_ends_it(
    planner: Connection, most_bytes: str, events: int
) -> None:
    scope = ("1", "true", "NULL", "NULL")
    plan = await explain(
        planner, sql.event_read_many, FEED_TYPES, "600", "0", "200", "16", *scope, most_bytes
    )
    scans = find_scans(plan, "outbox")

    assert plan["Actual Rows"] == events
    assert_by_index(scans)
    assert_by_index(find_scans(plan, "tick"))
    assert count_rows(find_scans(plan, "tick")) <= 2 * 16
    assert count_rows(scans) <= 16 * EVENTS // WINDOWS * 2 + len(SHARDS)


@pytest.mark.parametrize("has_events", [True, False])
async def test_a_check_for_new_events_is_cheap(planner: Connection, has_events: bool) -> None:
    if has_events:
        await planner.execute("UPDATE ticker SET tick = 200, snap = t.snap FROM tick t "
                              "WHERE t.tick = 200")  # fmt: skip
    tick = await planner.fetchval(sql.tick_get_newest)
    plan = await explain(planner, sql.ticker_cut, "bigint", str(tick))

    assert plan["Actual Rows"] == int(has_events)
    assert_by_index(find_scans(plan, "outbox"))
    assert count_rows(find_scans(plan, "outbox")) <= len(SHARDS)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200


_SUBSCRIBE = """
INSERT INTO endpoint (tenant_id, live, id, url, events, events_since, created_at, updated_at, events_after, created_after)
SELECT 1, true, 'wh_1', 'https://x', '{lead.updated}', at, at, at, 0, 0
FROM (SELECT now() - '1 h'::interval AS at) AS x;
INSERT INTO webhook_event (tenant_id, live, event_id, stored_at, type, lead_id, version, body, txid)
SELECT tenant_id, live, event_id, now() - id * interval '1 ms', type, lead_id, version, '', txid FROM outbox;
"""  # noqa: E501  # SQL
_DELIVER = """
INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, due_at, created_at)
SELECT tenant_id, live, 'wh_1', event_id, stored_at, type, lead_id, version, stored_at, stored_at FROM webhook_event;
"""  # noqa: E501  # SQL
_EMPTY = "DELETE FROM delivery; ANALYZE delivery;"
_FINISH = """
WITH done AS (DELETE FROM delivery RETURNING *)
INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause, outcome, attempts, created_at, finished_at)
SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause, 'delivered', 1, created_at, now() FROM done;
"""  # noqa: E501  # SQL
_EMPTY_FINAL = "DELETE FROM delivery_final; ANALYZE delivery_final;"
FILLED = pytest.mark.parametrize(
    "filling",
    [
        _DELIVER,
        _DELIVER + _EMPTY + _DELIVER,
        _DELIVER + _FINISH,
        _DELIVER + _FINISH + _EMPTY_FINAL + _DELIVER + _FINISH,
    ],
    ids=["waiting", "waiting, empty before", "finished", "finished, empty before"],
)


@FILLED
async def test_reconciling_a_span_costs_its_events_however_long_the_log_is(
    planner: Connection, filling: str
) -> None:
    await planner.execute(_SUBSCRIBE + filling)
    await planner.fetch(sql.reconciliation_begin, 60)
    plan = await explain(planner, sql.endpoint_reconcile, "bigint, bigint", "600", "620")
    events = 20 * EVENTS // WINDOWS

    (row,) = [node for node in walk(plan) if node["Node Type"] == "Aggregate"][:1]
    assert row["Actual Rows"] == 1
    assert count_rows(find_scans(plan, "outbox")) <= 2 * events + len(SHARDS)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50 * events


@FILLED
async def test_finding_stray_deliveries_costs_the_deliveries_of_that_time(
    planner: Connection, filling: str
) -> None:
    await planner.execute(_SUBSCRIBE + filling)
    await planner.fetch(sql.reconciliation_begin, 60)
    end = "now() - interval '10 s'"
    plan = await explain(
        planner, sql.delivery_reconcile, "timestamptz, timestamptz", f"{end} - interval '1 s'", end
    )
    deliveries = [
        node for node in walk(plan) if node.get("Relation Name", "").startswith("delivery")
    ]
    assert plan["Actual Rows"] == 0
    assert 900 <= count_rows(deliveries) <= 1_100
    assert count_rows(find_scans(plan, "outbox")) <= 2 * 1_100
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 40 * 1_000
