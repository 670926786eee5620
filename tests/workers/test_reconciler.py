"""The independent count of deliveries, and the key that seals secrets."""

import base64
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
import structlog
from msgspec.structs import replace

import sql
from service.db import Pool
from service.request_keys import make_digest
from service.request_keys import make_owner as make_answer_owner
from service.secretbox import SealError, make_box
from service.settings import Settings
from service.webhooks.changes import EndpointPatch, change_endpoint
from service.webhooks.endpoints import NewEndpoint, create_endpoint, make_owner, open_box
from service.webhooks.reconciling import Reckoning, find_end, reckon_since
from service.webhooks.rekeying import rekey_all
from tests.serving import serve_api
from tests.workbench import Workbench
from workers.delivery.targets import TargetBook
from workers.fanout import Fanout
from workers.reconciler import Reconciler
from workers.ticker import Ticker

KEYS = [base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in range(3)]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the reconciler logs, whatever level other tests have set."""
    capture = structlog.testing.LogCapture()
    level = structlog.make_filtering_bound_logger(0)
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=level)
    monkeypatch.setattr("workers.reconciler.log", log)
    return capture.entries


async def open_endpoint(bench: Workbench, *events: str) -> str:
    async with bench.pool.acquire() as conn, conn.transaction():
        new = NewEndpoint(url="http://127.0.0.1:9/", events=list(events))  # type: ignore[arg-type]  # known
        made = await create_endpoint(
            conn, open_box(bench.shop.settings), bench.who.tenant_id, bench.who.live, new
        )
    return made.id


async def drain(bench: Workbench) -> None:
    await bench.drain(*(Fanout(bench.shop, f"fanout/{n}") for n in range(2)))


async def count(bench: Workbench) -> Reckoning:
    """All of the log, up to where fan-out is."""
    async with bench.pool.acquire() as conn:
        found, _ = await reckon_since(conn, datetime.min.replace(tzinfo=UTC))
    return found


async def fill(bench: Workbench) -> str:
    """An endpoint and three deliveries for it."""
    endpoint_id = await open_endpoint(bench, "lead.created", "lead.updated")
    lead_id = await bench.capture('{"email": "one@example.com"}')
    await bench.capture('{"email": "two@example.com"}')
    await bench.patch(lead_id, '{"name": "x"}')
    await drain(bench)
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
async def test_the_reckoning_balances_or_finds_what_does_not(
    bench: Workbench, harm: str, missing: int, doubled: int, stray: int, is_finished: bool
) -> None:
    endpoint_id = await fill(bench)
    await bench.pool.execute(harm)
    if is_finished:
        await bench.pool.execute(FILE)
    await cut(bench)
    (one,) = (await count(bench)).counts
    assert (one.endpoint_id, one.missing, one.doubled) == (endpoint_id, missing, doubled)
    assert (one.stray, one.expected) == (stray, 3 if "SET events" in harm else 4)


async def cut(bench: Workbench) -> None:
    """One more window, so that what was made before lies between ticks."""
    await bench.capture('{"email": "last@example.com"}')
    await drain(bench)


async def test_events_of_old_fan_outs_that_noted_no_transaction_are_no_alarm(
    bench: Workbench,
) -> None:
    await fill(bench)
    await bench.pool.execute("UPDATE webhook_event SET txid = NULL")
    await cut(bench)
    assert (await count(bench)).differences == []


async def test_pieces_leave_nothing_out_and_count_nothing_twice(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.webhooks.reconciling.TICKS", 2)
    monkeypatch.setattr("workers.reconciler.TICKS", 2)
    await open_endpoint(bench, "lead.created")
    held = await bench.pool.acquire()  # its event is in a later window than its neighbours
    transaction = held.transaction()
    await transaction.start()
    await held.execute(
        "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, "
        "data) VALUES (lead_shard('l'), $1, true, 'l', 1, 'evt_l', 'lead.created', 'k', now_ms(), "
        "'{}')", bench.who.tenant_id,
    )  # fmt: skip
    for n in range(8):
        if n == 5:
            await transaction.commit()
        await bench.capture(f'{{"email": "lead{n}@example.com"}}')
        await drain(bench)
    await bench.pool.release(held)
    reconciler = Reconciler(bench.shop)
    turns = 0
    while await reconciler.once():
        turns += 1
    assert turns == 4
    rows = await bench.pool.fetch("SELECT expected, missing, tick FROM reconciliation")
    assert [tuple(row) for row in rows] == [(9, 0, await newest_tick(bench))]  # one that has grown


async def newest_tick(bench: Workbench) -> int:
    return int(await bench.pool.fetchval("SELECT tick FROM ticker"))


async def test_the_reconciler_goes_on_from_where_it_was_however_long_ago(
    bench: Workbench, told: list[Any]
) -> None:
    await fill(bench)
    while await Reconciler(bench.shop).once():
        pass
    await cut(bench)
    assert await Reconciler(bench.shop).once() == 0  # too early, and not much
    await bench.pool.execute(
        "UPDATE reconciliation SET at = at - interval '1 day', since = since - interval '1 day', "
        "upto = upto - interval '1 day'"
    )
    await bench.pool.execute(
        "DELETE FROM delivery WHERE event_id = (SELECT max(event_id) FROM delivery)"
    )
    told.clear()
    assert await Reconciler(bench.shop).once() == 1
    assert await Reconciler(bench.shop).once() == 0
    (line,) = [line for line in told if line["event"] == "deliveries.differ"]
    assert (line["log_level"], line["missing"]) == ("error", 1)
    rows = await bench.pool.fetch("SELECT expected, missing FROM reconciliation ORDER BY tick")
    assert rows[0]["missing"] == 0
    assert rows[1]["missing"] == 1


async def test_a_tick_is_found_by_its_time(bench: Workbench) -> None:
    for n in range(6):
        await bench.capture(f'{{"email": "lead{n}@example.com"}}')
        await Ticker(bench.shop).once()
    ticks = await bench.pool.fetch("SELECT tick, at FROM tick ORDER BY tick")
    a_little = timedelta(microseconds=1)
    for before, tick in pairwise(ticks):
        assert await bench.pool.fetchval(sql.tick_find_last, tick["at"]) == tick["tick"]
        found = await bench.pool.fetchval(sql.tick_find_last, tick["at"] - a_little)
        assert found == before["tick"]
    assert await bench.pool.fetchval(sql.tick_find_last, datetime.max.replace(tzinfo=UTC)) == 7
    assert await bench.pool.fetchval(sql.tick_find_last, datetime.min.replace(tzinfo=UTC)) == 1


async def test_where_fan_out_stands_still_nothing_is_said_to_be_proven(
    bench: Workbench, told: list[Any]
) -> None:
    await fill(bench)
    while await Reconciler(bench.shop).once():
        pass
    await bench.capture('{"email": "stuck@example.com"}')
    await Ticker(bench.shop).once()
    await bench.pool.execute(
        "UPDATE tick SET at = at - interval '2 minutes' WHERE tick = (SELECT tick FROM ticker)"
    )
    async with bench.pool.acquire() as conn:
        _, end = await reckon_since(conn, datetime.min.replace(tzinfo=UTC))
    assert end.is_late
    await bench.pool.execute("UPDATE reconciliation SET at = at - interval '6 minutes'")
    told.clear()
    assert await Reconciler(bench.shop).once() == 0
    assert [line["event"] for line in told] == ["deliveries.unproven"]


async def test_an_event_that_no_window_holds_yet_is_not_proven(bench: Workbench) -> None:
    await fill(bench)
    await bench.capture('{"email": "uncut@example.com"}')  # and the ticker is dead
    await bench.pool.execute(
        "UPDATE outbox SET at = at - interval '2 minutes' "
        "WHERE txid >= (SELECT pg_snapshot_xmax(snap) FROM ticker)"
    )
    async with bench.pool.acquire() as conn:
        assert (await find_end(conn, await newest_tick(bench))).is_late
    await drain(bench)
    async with bench.pool.acquire() as conn:
        assert not (await find_end(conn, await newest_tick(bench))).is_late


async def test_metrics_tell_what_differs_and_how_late_deliveries_are(bench: Workbench) -> None:
    await fill(bench)
    await bench.pool.execute("UPDATE delivery SET due_at = now() - interval '1 hour'")
    await bench.pool.execute("DELETE FROM delivery WHERE version = 2")
    while await Reconciler(bench.shop).once():
        pass
    async with serve_api(bench.shop.settings) as url, aiohttp.ClientSession() as session:

        async def read(name: str) -> float:
            async with session.get(f"{url}/metrics") as answer:
                text = await answer.text()
            return float(text.partition(f"\n{name} ")[2].partition("\n")[0])

        assert await read("leadlog_deliveries_missing") == 1
        assert await read("leadlog_deliveries_unproven_seconds") < 60
        assert 3600 <= await read("leadlog_delivery_lateness_seconds") < 3660
        await bench.pool.execute("UPDATE endpoint_health SET closed_until = now() + '1 hour'")
        assert await read("leadlog_delivery_lateness_seconds") == 0
        await bench.pool.execute("UPDATE endpoint_health SET closed_until = NULL")
        await bench.pool.execute("UPDATE endpoint SET status = 'paused'")
        assert await read("leadlog_delivery_lateness_seconds") == 0
        await bench.pool.execute("UPDATE reconciliation SET at = at - interval '2 days'")
        assert await read("leadlog_deliveries_missing") == 0


async def test_events_before_a_change_of_what_is_wanted_are_not_counted(bench: Workbench) -> None:
    endpoint_id = await open_endpoint(bench, "lead.deleted")
    lead_id = await bench.capture('{"email": "one@example.com"}')
    await drain(bench)
    async with bench.pool.acquire() as conn, conn.transaction():
        patch = EndpointPatch(events=["lead.created"])
        who = bench.who
        box = open_box(bench.shop.settings)
        assert await change_endpoint(conn, box, who.tenant_id, who.live, endpoint_id, patch)
    assert (lead_id != "", (await count(bench)).differences) == (True, [])


async def test_a_new_secret_key_takes_over_without_losing_a_secret(
    bench: Workbench, settings: Settings, pool: Pool
) -> None:
    old = replace(settings, secret_key=KEYS[0])
    new = replace(settings, secret_key=f"{KEYS[1]},{KEYS[0]}")
    alone = replace(settings, secret_key=KEYS[1])
    async with pool.acquire() as conn:
        async with conn.transaction():
            wanted = NewEndpoint(url="http://127.0.0.1:9/", events=["lead.created"])
            whose = bench.who.tenant_id, bench.who.live
            made = await create_endpoint(conn, make_box(old), *whose, wanted)
            patch = EndpointPatch(headers={"X-Key": "value"})
            assert await change_endpoint(conn, make_box(old), *whose, made.id, patch)
        key = make_digest("key")
        owner = make_answer_owner(*whose, key)
        sealed = make_box(old).seal(b"answer", owner)
        await conn.execute(
            sql.idempotent_answer_insert_if_new, *whose, key, key, 201, None, None, None, sealed
        )
        assert await rekey_all(conn, make_box(new)) == 3
        assert await rekey_all(conn, make_box(new)) == 0
        with pytest.raises(SealError):
            await rekey_all(conn, make_box(replace(settings, secret_key=KEYS[2])))
        (answer,) = await conn.fetch(sql.idempotent_answer_get_many, [whose[0]], [whose[1]], [key])
        assert make_box(alone).open(answer["sealed"], owner) == b"answer"
    book = TargetBook(pool, make_box(alone), 15)
    target = (await book.get_many([made.id]))[made.id]
    assert target is not None
    assert target.headers == {"X-Key": "value"}
    assert make_owner(1, made.id) != make_owner(2, made.id)
