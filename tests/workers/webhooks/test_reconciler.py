"""The reconciler compares the log with the deliveries and reports each difference."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import structlog

import sql
from service.encryption import open_encryptor
from service.webhooks.endpoint_update import EndpointPatch, update_endpoint
from service.webhooks.endpoints import NewEndpoint, create_endpoint
from service.webhooks.reconciliation import Reconciliation, find_end, reconcile_since
from tests.harness.worker_harness import WorkerHarness
from workers.fanout import Fanout
from workers.reconciler import Reconciler
from workers.ticker import Ticker


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The log lines of the reconciler, of every level."""
    capture = structlog.testing.LogCapture()
    level = structlog.make_filtering_bound_logger(0)
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=level)
    monkeypatch.setattr("workers.reconciler.log", log)
    return capture.entries


async def open_endpoint(harness: WorkerHarness, *events: str) -> str:
    async with harness.pool.acquire() as conn, conn.transaction():
        new = NewEndpoint(url="http://127.0.0.1:9/", events=list(events))  # type: ignore[arg-type]  # known
        made = await create_endpoint(
            conn,
            open_encryptor(harness.context.settings),
            harness.principal.tenant_id,
            harness.principal.live,
            new,
        )
    return made.id


async def drain(harness: WorkerHarness) -> None:
    await harness.drain(Fanout(harness.context))


async def count(harness: WorkerHarness) -> Reconciliation:
    """Reconciles the whole log, as far as fan-out has read it."""
    async with harness.pool.acquire() as conn:
        reconciliation, _ = await reconcile_since(conn, datetime.min.replace(tzinfo=UTC))
    return reconciliation


async def fill(harness: WorkerHarness) -> str:
    """Creates an endpoint with three deliveries."""
    endpoint_id = await open_endpoint(harness, "lead.created", "lead.updated")
    lead_id = await harness.capture('{"email": "one@example.com"}')
    await harness.capture('{"email": "two@example.com"}')
    await harness.patch(lead_id, '{"name": "x"}')
    await drain(harness)
    return endpoint_id


COPY = (
    "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, "
    "version, due_at, created_at) SELECT tenant_id, live, endpoint_id, {event}, stored_at, type, "
    "lead_id, version + {later}, due_at, created_at FROM delivery WHERE version = 1 LIMIT 1"
)
FILE = (
    "WITH done AS (DELETE FROM delivery RETURNING *) INSERT INTO delivery_final (id, tenant_id, "
    "live, endpoint_id, event_id, stored_at, type, lead_id, version, cause, outcome, attempts, "
    "created_at, finished_at) SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, "
    "lead_id, version, cause, 'delivered', 1, created_at, now() FROM done"
)


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize(
    ("harm", "missing", "doubled", "stray"),
    [
        ("SELECT", 0, 0, 0),
        ("DELETE FROM delivery WHERE version = 2", 1, 0, 0),
        (COPY.format(event="event_id", later=0), 0, 1, 0),
        (COPY.format(event="'evt_nobodys'", later=7), 0, 0, 1),
        ("UPDATE endpoint SET events = '{lead.created}'", 0, 0, 1),
        ("UPDATE webhook_event SET txid = '1' WHERE version = 2", 0, 0, 1),
        ("UPDATE delivery SET cause = 'replay' WHERE version = 2", 1, 0, 0),
    ],
)
async def test_reconciliation_finds_each_difference_and_no_other(
    harness: WorkerHarness, harm: str, missing: int, doubled: int, stray: int, is_finished: bool
) -> None:
    endpoint_id = await fill(harness)
    await harness.pool.execute(harm)
    if is_finished:
        await harness.pool.execute(FILE)
    await cut(harness)
    (one,) = (await count(harness)).counts
    assert (one.endpoint_id, one.missing, one.doubled) == (endpoint_id, missing, doubled)
    assert (one.stray, one.expected) == (stray, 3 if "SET events" in harm else 4)


async def cut(harness: WorkerHarness) -> None:
    """Cuts one more window, so that all earlier deliveries are between two ticks."""
    await harness.capture('{"email": "last@example.com"}')
    await drain(harness)


async def test_a_stray_delivery_is_found_if_the_clock_was_set_back(harness: WorkerHarness) -> None:
    await fill(harness)
    await harness.pool.execute(COPY.format(event="'evt_nobodys'", later=7))
    await cut(harness)
    await harness.pool.execute(
        "UPDATE tick SET at = now() + interval '30 seconds' "
        "WHERE tick = (SELECT min(tick) FROM tick)"
    )
    (one,) = (await count(harness)).counts
    assert (one.missing, one.doubled, one.stray) == (0, 0, 1)


async def test_deliveries_of_old_fan_outs_without_a_transaction_id_are_no_difference(
    harness: WorkerHarness,
) -> None:
    await fill(harness)
    await harness.pool.execute("UPDATE webhook_event SET txid = NULL")
    await cut(harness)
    assert (await count(harness)).differences == []


async def test_spans_count_each_event_exactly_once(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.webhooks.reconciliation.TICKS", 2)
    monkeypatch.setattr("workers.reconciler.TICKS", 2)
    await open_endpoint(harness, "lead.created")
    # This event gets into a later window than events with neighbouring ids.
    async with harness.pool.acquire() as held:
        transaction = held.transaction()
        await transaction.start()
        await held.execute(
            "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, "
            "at, data) VALUES (lead_shard('l'), $1, true, 'l', 1, 'evt_l', 'lead.created', 'k', "
            "now_ms(), '{}')", harness.principal.tenant_id,
        )  # fmt: skip
        for n in range(8):
            if n == 5:
                await transaction.commit()
            await harness.capture(f'{{"email": "lead{n}@example.com"}}')
            await drain(harness)
    reconciler = Reconciler(harness.context)
    turns = 0
    while await reconciler.once():
        turns += 1
    assert turns == 4
    rows = await harness.pool.fetch("SELECT expected, missing, tick FROM reconciliation")
    assert [tuple(row) for row in rows] == [
        (9, 0, await newest_tick(harness))
    ]  # one row, extended by each span


async def newest_tick(harness: WorkerHarness) -> int:
    return int(await harness.pool.fetchval("SELECT tick FROM ticker"))


async def test_the_reconciler_continues_from_its_last_tick_after_any_time(
    harness: WorkerHarness, log_lines: list[Any]
) -> None:
    await fill(harness)
    while await Reconciler(harness.context).once():
        pass
    await cut(harness)
    assert await Reconciler(harness.context).once() == 0  # too early, and the span is short
    await harness.pool.execute(
        "UPDATE reconciliation SET at = at - interval '1 day', since = since - interval '1 day', "
        "upto = upto - interval '1 day'"
    )
    await harness.pool.execute(
        "DELETE FROM delivery WHERE event_id = (SELECT max(event_id) FROM delivery)"
    )
    log_lines.clear()
    assert await Reconciler(harness.context).once() == 1
    assert await Reconciler(harness.context).once() == 0
    (line,) = [line for line in log_lines if line["event"] == "deliveries.differ"]
    assert (line["log_level"], line["missing"]) == ("error", 1)
    rows = await harness.pool.fetch("SELECT expected, missing FROM reconciliation ORDER BY tick")
    assert rows[0]["missing"] == 0
    assert rows[1]["missing"] == 1


async def test_tick_find_last_finds_the_last_tick_at_a_time(harness: WorkerHarness) -> None:
    for n in range(6):
        await harness.capture(f'{{"email": "lead{n}@example.com"}}')
        await Ticker(harness.context).once()
    ticks = await harness.pool.fetch("SELECT tick, at FROM tick ORDER BY tick")
    a_little = timedelta(microseconds=1)
    for before, tick in pairwise(ticks):
        assert await harness.pool.fetchval(sql.tick_find_last, tick["at"]) == tick["tick"]
        found = await harness.pool.fetchval(sql.tick_find_last, tick["at"] - a_little)
        assert found == before["tick"]
    assert await harness.pool.fetchval(sql.tick_find_last, datetime.max.replace(tzinfo=UTC)) == 7
    assert await harness.pool.fetchval(sql.tick_find_last, datetime.min.replace(tzinfo=UTC)) == 1


async def test_a_stopped_fan_out_makes_the_reconciliation_late(
    harness: WorkerHarness, log_lines: list[Any]
) -> None:
    await fill(harness)
    while await Reconciler(harness.context).once():
        pass
    await harness.capture('{"email": "stuck@example.com"}')
    await Ticker(harness.context).once()
    await harness.pool.execute(
        "UPDATE tick SET at = at - interval '2 minutes' WHERE tick = (SELECT tick FROM ticker)"
    )
    async with harness.pool.acquire() as conn:
        _, end = await reconcile_since(conn, datetime.min.replace(tzinfo=UTC))
    assert end.is_late
    await harness.pool.execute("UPDATE reconciliation SET at = at - interval '6 minutes'")
    log_lines.clear()
    assert await Reconciler(harness.context).once() == 0
    assert [line["event"] for line in log_lines] == ["deliveries.unproven"]


async def test_an_old_event_without_a_window_makes_the_reconciliation_late(
    harness: WorkerHarness,
) -> None:
    await fill(harness)
    await harness.capture('{"email": "uncut@example.com"}')  # no tick is cut
    await harness.pool.execute(
        "UPDATE outbox SET at = at - interval '2 minutes' "
        "WHERE txid >= (SELECT pg_snapshot_xmax(snap) FROM ticker)"
    )
    async with harness.pool.acquire() as conn:
        assert (await find_end(conn, await newest_tick(harness))).is_late
    await drain(harness)
    async with harness.pool.acquire() as conn:
        assert not (await find_end(conn, await newest_tick(harness))).is_late


async def test_events_before_a_change_of_the_subscription_are_not_counted(
    harness: WorkerHarness,
) -> None:
    endpoint_id = await open_endpoint(harness, "lead.deleted")
    lead_id = await harness.capture('{"email": "one@example.com"}')
    await drain(harness)
    async with harness.pool.acquire() as conn, conn.transaction():
        patch = EndpointPatch(events=["lead.created"])
        who = harness.principal
        encryptor = open_encryptor(harness.context.settings)
        assert await update_endpoint(conn, encryptor, who.tenant_id, who.live, endpoint_id, patch)
    assert (lead_id != "", (await count(harness)).differences) == (True, [])
