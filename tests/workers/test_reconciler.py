"""The independent count of deliveries, and the key that seals secrets."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

import sql
from service.db import Pool
from service.reconciling import reconcile
from service.rekeying import rekey_all
from service.request_keys import make_digest
from service.request_keys import make_owner as make_answer_owner
from service.secretbox import SealError, make_box
from service.settings import Settings
from service.webhook_changes import EndpointPatch, change_endpoint
from service.webhooks import NewEndpoint, create_endpoint, make_owner, open_box
from tests.workbench import Workbench
from workers.fanout import Fanout
from workers.reconciler import Reconciler
from workers.targets import TargetBook

KEYS = [base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in range(3)]


async def open_endpoint(bench: Workbench, *events: str) -> str:
    async with bench.pool.acquire() as conn, conn.transaction():
        new = NewEndpoint(url="http://127.0.0.1:9/", events=list(events))  # type: ignore[arg-type]  # known
        made = await create_endpoint(
            conn, open_box(bench.shop.settings), bench.who.tenant_id, bench.who.live, new
        )
    return made.id


async def drain(bench: Workbench) -> None:
    await bench.drain(*(Fanout(bench.shop, f"fanout/{n}") for n in range(2)))


async def test_the_reckoning_balances_and_finds_what_is_missing_or_double(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.reconciling.SECOND_LOOK_S", 0)
    endpoint_id = await open_endpoint(bench, "lead.created", "lead.updated")
    lead_id = await bench.capture('{"email": "one@example.com"}')
    await bench.capture('{"email": "two@example.com"}')
    await bench.patch(lead_id, '{"name": "x"}')
    await drain(bench)

    later = datetime.now(UTC) + timedelta(seconds=5)
    monkeypatch.setattr("service.reconciling.datetime", _Clock(later))
    async with bench.pool.acquire() as conn:
        balanced = await reconcile(conn)
        assert (balanced.endpoints, balanced.expected, balanced.differences) == (1, 3, [])
        gone = await conn.fetchval("DELETE FROM delivery WHERE version = 2 RETURNING event_id")
        assert gone is not None
        await conn.execute(
            "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, "
            "lead_id, version, due_at, created_at) SELECT tenant_id, live, endpoint_id, event_id, "
            "stored_at, type, lead_id, version, due_at, created_at FROM delivery LIMIT 1"
        )
        (difference,) = (await reconcile(conn)).differences
    assert (difference.endpoint_id, difference.expected) == (endpoint_id, 3)
    assert (difference.missing, difference.doubled) == (1, 1)


class _Clock:
    """Looks at the log as if some seconds had gone by."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self, _: object) -> datetime:
        return self._at


async def test_the_reconciler_counts_once_an_hour(bench: Workbench) -> None:
    reconciler = Reconciler(bench.shop)
    for _ in range(3):
        assert await reconciler.once() == 0
    assert await bench.pool.fetchval("SELECT count(*) FROM reconciliation") == 1
    await bench.pool.execute("UPDATE reconciliation SET at = at - interval '61 minutes'")
    await reconciler.once()
    assert await bench.pool.fetchval("SELECT count(*) FROM reconciliation") == 2


async def test_events_before_a_change_of_what_is_wanted_are_not_counted(bench: Workbench) -> None:
    endpoint_id = await open_endpoint(bench, "lead.deleted")
    lead_id = await bench.capture('{"email": "one@example.com"}')
    await drain(bench)
    async with bench.pool.acquire() as conn:
        async with conn.transaction():
            patch = EndpointPatch(events=["lead.created"])
            who = bench.who
            box = open_box(bench.shop.settings)
            assert await change_endpoint(conn, box, who.tenant_id, who.live, endpoint_id, patch)
        found = await reconcile(conn)
    assert (lead_id != "", found.differences) == (True, [])


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
