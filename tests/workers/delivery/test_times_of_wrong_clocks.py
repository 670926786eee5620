"""Pauses and delays set while the database's clock was ahead end after its correction."""

import logging
from typing import Any

import pytest
import structlog

import sql
from tests.harness.delivery_harness import DeliveryHarness, close
from tests.loopback.receiver import Receiver
from tests.sql.explaining import explain
from workers.delivery.maintenance import MAX_CLOSED_S, MAX_WAIT_S, repair_times
from workers.dispatcher import Dispatcher


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The log lines of the dispatcher's maintenance."""
    capture = structlog.testing.LogCapture()
    every_level = structlog.make_filtering_bound_logger(logging.NOTSET)
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=every_level)
    monkeypatch.setattr("workers.delivery.maintenance.log", log)
    return capture.entries


PUT_OFF = (
    "UPDATE delivery SET due_at = now() + make_interval(secs => $1), attempts = 1, yields = true, "
    "deadline_at = now() + make_interval(secs => $1)"
)
CLOSE = (
    "UPDATE endpoint_health SET closed_until = now() + make_interval(secs => $1), "
    "excused_until = now() + make_interval(secs => $1), excused_s = $1"
)
LANES = 20
YEAR_S = 365 * 86400.0


async def test_deliveries_delayed_by_a_year_are_sent(
    delivery_harness: DeliveryHarness, receiver: Receiver, log_lines: list[Any]
) -> None:
    await delivery_harness.add(*[(f"l{n}", version) for n in range(3) for version in (1, 2)])
    await delivery_harness.pool.execute(PUT_OFF, YEAR_S)
    await delivery_harness.pool.execute(CLOSE, YEAR_S)
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await dispatcher.maintenance.run()
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    assert len(receiver.received) == 6
    (line,) = [line for line in log_lines if line["event"] == "clock.repaired"]
    assert (line["log_level"], line["endpoints"], line["deliveries"]) == ("warning", 1, 6)


async def test_a_delivery_delayed_by_the_clock_gets_a_new_budget(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.add(("a", 1))
    await delivery_harness.pool.execute(PUT_OFF, YEAR_S)
    assert await repair_times(delivery_harness.pool) == 1
    assert await delivery_harness.pool.fetchval("SELECT deadline_at FROM delivery") is None


async def test_the_longest_possible_pauses_and_delays_are_not_repaired(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.add(("a", 1))
    await delivery_harness.pool.execute(PUT_OFF, MAX_WAIT_S - 30)
    await delivery_harness.pool.execute(CLOSE, MAX_CLOSED_S - 30)
    assert await repair_times(delivery_harness.pool) == 0
    await delivery_harness.pool.execute(PUT_OFF, MAX_WAIT_S + 30)
    await delivery_harness.pool.execute(CLOSE, MAX_CLOSED_S + 30)
    assert await repair_times(delivery_harness.pool) == 2


@pytest.mark.parametrize("statistics", ["none", "of before", "of uncommitted rows", "true"])
@pytest.mark.parametrize("wrong", [0, 5])
@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_the_search_for_wrong_times_does_not_read_the_waiting_deliveries(
    delivery_harness: DeliveryHarness, plans: str, statistics: str, wrong: int
) -> None:
    # An autovacuum during the test would gather other statistics than the test wants.
    await delivery_harness.pool.execute("ALTER TABLE delivery SET (autovacuum_enabled = off)")
    if statistics == "of before":
        await delivery_harness.add(("a", 1))
        await delivery_harness.pool.execute("VACUUM ANALYZE delivery")
    async with delivery_harness.pool.acquire() as conn, conn.transaction():
        await conn.execute(
            "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, "
            "lead_id, version, yields, due_at, created_at) SELECT 1, true, 'wh_' || n % 10, "
            "'evt_' || n, now(), 'lead.updated', 'many' || n, 1, n % 3 = 0, "
            "now() + CASE WHEN n <= $1 THEN interval '1 year' ELSE n * interval '1 s' END, now() "
            "FROM generate_series(1, 20000) AS n",
            wrong,
        )
        if statistics == "of uncommitted rows":  # as autovacuum may do at any time
            await delivery_harness.pool.execute("ANALYZE delivery")
    if statistics == "true":
        await delivery_harness.pool.execute("ANALYZE delivery")
    async with delivery_harness.pool.acquire() as conn:
        nodes = await explain(conn, plans, sql.delivery_repair_many, [MAX_WAIT_S, 1000])
    await delivery_harness.pool.execute("ALTER TABLE delivery RESET (autovacuum_enabled)")
    scans = [node for node in nodes if "Index Name" in node]
    assert not any(node["Node Type"] == "Seq Scan" for node in nodes)
    assert {node["Index Name"] for node in scans} <= {"delivery_by_due", "delivery_pkey"}
    read = [
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in scans
    ]
    assert sum(read) <= 2 * LANES + wrong
