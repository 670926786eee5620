"""The hot reads of the log cost what they return, however long the log is.

On a log of 50,000 events in 2,000 windows, with a transaction that was open for half of them; with
statistics and, as in the first hours of a week's partition, without; with plans made for the
arguments and for any arguments.
"""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

import sql
from service.db import Connection
from service.log import SHARDS
from tests.cluster import Cluster

EVENTS = 50_000
WINDOWS = 2_000
FIRST = 10
"""The transaction of the first event; each event has one of its own, and all are over."""

LONG = FIRST + 12_000
"""A transaction that is open from then on until ten windows before the end."""

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

# Statistics of an empty partition would make the planner read it whole: nobody analyses those.
_NAME_FILLED = """
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
            await conn.execute(await conn.fetchval(_NAME_FILLED))
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
    """The plan as it ran."""
    await conn.execute(f"PREPARE looked_at ({types}) AS {statement}")
    text = await conn.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE looked_at ({', '.join(arguments)})"
    )
    await conn.execute("DEALLOCATE looked_at")
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from walk(child)


def find_scans(plan: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """The nodes that read a table's partitions, if they ran at all."""
    return [
        node
        for node in walk(plan)
        if node.get("Relation Name", "").startswith(f"{table}_") and node["Actual Loops"]
    ]


def count_rows(scans: list[dict[str, Any]]) -> float:
    """The rows that were fetched, those thrown away included."""
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
    kinds = {node["Node Type"] for node in scans}
    assert kinds <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, kinds


SHARD_LIST = "'{" + ",".join(map(str, SHARDS)) + "}'"
READ_TYPES = "bigint, bigint, smallint[], integer, integer"


@pytest.mark.parametrize("tick", [10, 600, 1_999])
async def test_a_window_costs_its_rows_wherever_it_stands_in_the_log(
    planner: Connection, tick: int
) -> None:
    plan = await explain(
        planner, sql.window_read_many, READ_TYPES, str(tick), "0", SHARD_LIST, "1000", "1"
    )
    scans = find_scans(plan, "outbox")

    assert plan["Actual Rows"] == EVENTS // WINDOWS
    assert_by_index(scans)
    assert_by_index(find_scans(plan, "tick"))
    assert count_rows(find_scans(plan, "tick")) == 2
    assert count_rows(scans) <= 2 * plan["Actual Rows"] + len(SHARDS)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 1_000


async def test_an_empty_look_at_the_end_of_the_log_costs_next_to_nothing(
    planner: Connection,
) -> None:
    last = str(WINDOWS + 1)
    plan = await explain(
        planner, sql.window_read_many, READ_TYPES, last, "0", SHARD_LIST, "1000", "1"
    )

    assert plan["Actual Rows"] == 0
    assert count_rows(find_scans(plan, "tick")) <= 1
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50


async def test_many_windows_cost_their_rows(planner: Connection) -> None:
    plan = await explain(
        planner, sql.window_read_many, READ_TYPES, "600", "0", SHARD_LIST, "200", "50"
    )
    scans = find_scans(plan, "outbox")

    assert plan["Actual Rows"] == 200
    assert count_rows(find_scans(plan, "tick")) <= 2 * 50
    assert_by_index(scans)
    assert count_rows(scans) <= 50 * EVENTS // WINDOWS * 2


@pytest.mark.parametrize("has_news", [True, False])
async def test_looking_for_news_costs_next_to_nothing(planner: Connection, has_news: bool) -> None:
    if has_news:
        await planner.execute("UPDATE ticker SET tick = 200, snap = t.snap FROM tick t "
                              "WHERE t.tick = 200")  # fmt: skip
    tick = await planner.fetchval(sql.ticker_get_tick)
    plan = await explain(planner, sql.ticker_cut, "bigint", str(tick))

    assert plan["Actual Rows"] == int(has_news)
    assert_by_index(find_scans(plan, "outbox"))
    assert count_rows(find_scans(plan, "outbox")) <= len(SHARDS)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200


_WANT = """
INSERT INTO endpoint (tenant_id, live, id, url, events, events_since, created_at, updated_at)
SELECT 1, true, 'wh_1', 'https://x', '{lead.updated}', at, at, at FROM (SELECT now() - '1 h'::interval AS at) AS x;
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
async def test_a_piece_of_the_reckoning_costs_its_events_however_much_there_is(
    planner: Connection, filling: str
) -> None:
    await planner.execute(_WANT + filling)
    await planner.fetch(sql.reconciliation_begin, 60)
    plan = await explain(planner, sql.endpoint_reconcile, "bigint, bigint", "600", "620")
    events = 20 * EVENTS // WINDOWS

    (row,) = [node for node in walk(plan) if node["Node Type"] == "Aggregate"][:1]
    assert row["Actual Rows"] == 1
    assert count_rows(find_scans(plan, "outbox")) <= 2 * events + len(SHARDS)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50 * events


@FILLED
async def test_looking_for_stray_deliveries_costs_those_of_that_time(
    planner: Connection, filling: str
) -> None:
    await planner.execute(_WANT + filling)
    await planner.fetch(sql.reconciliation_begin, 60)
    end = "clock_timestamp() - interval '10 s'"
    plan = await explain(
        planner, sql.delivery_reconcile, "timestamptz, timestamptz", f"{end} - interval '1 s'", end
    )
    deliveries = [
        node for node in walk(plan) if node.get("Relation Name", "").startswith("delivery")
    ]
    assert plan["Actual Rows"] == 0
    assert 900 <= count_rows(deliveries) <= 1_100
    assert count_rows(find_scans(plan, "outbox")) <= 2 * 1_100
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 30 * 1_000
