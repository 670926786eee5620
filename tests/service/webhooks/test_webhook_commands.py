"""`leadlog webhooks …`, as its operator types it."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from service.settings import Settings
from tests.bench.webhooks.stage import make_endpoint, make_tenant
from tests.service.commandline import SECRET_KEY, Command, bare, leadlog

__all__ = ["bare", "leadlog"]
EXIT_DIFFERENT = 1


@pytest.fixture
def endpoint_id(leadlog: Command, database_url: str, settings: Settings) -> str:
    """A webhook for which an event was, ten seconds ago, and no delivery is."""
    assert leadlog is not None
    return asyncio.run(_make_endpoint(database_url, settings))


CUT = (
    "WITH cut AS (UPDATE ticker SET tick = tick + 1, snap = pg_current_snapshot(), at = now() "
    "RETURNING *) INSERT INTO tick (tick, generation, snap, at) "
    "SELECT tick, generation, snap, at FROM cut"
)


async def _make_endpoint(database_url: str, settings: Settings) -> str:
    conn = await asyncpg.connect(database_url)
    tenant_id = await make_tenant(conn, "acme")
    endpoint_id = await make_endpoint(conn, settings, tenant_id, "http://127.0.0.1:9/")
    at = datetime.now(UTC) - timedelta(seconds=10)
    await conn.execute("UPDATE endpoint SET created_at = $1, events_since = $1", at)
    await conn.execute(
        "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, "
        "data) VALUES (lead_shard('lead_1'), $1, true, 'lead_1', 1, 'evt_1', 'lead.created', 'k', "
        "$2, '{}')",
        tenant_id, at,
    )  # fmt: skip
    await conn.execute(CUT)
    await conn.execute("UPDATE reader SET tick = 2")  # fan-out has passed it
    await conn.close()
    return endpoint_id


def execute(database_url: str, statement: str, *values: object) -> None:
    async def run() -> None:
        conn = await asyncpg.connect(database_url)
        await conn.execute(statement, *values)
        await conn.close()

    asyncio.run(run())


FILE = (
    "WITH event AS (INSERT INTO webhook_event (tenant_id, live, event_id, stored_at, type, "
    "lead_id, version, body, txid) SELECT o.tenant_id, o.live, o.event_id, e.created_at, o.type, "
    "o.lead_id, o.version, '', o.txid FROM outbox o CROSS JOIN endpoint e) "
    "INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type, "
    "lead_id, version, cause, outcome, attempts, last_error, created_at, finished_at) "
    "SELECT 1, tenant_id, live, id, 'evt_1', created_at, 'lead.created', 'lead_1', 1, 'event', "
    "'failed', 0, $1, created_at, now() - interval '5 seconds' FROM endpoint"
)


def test_reconcile_names_what_is_missing_and_exits_with_1(
    leadlog: Command, endpoint_id: str
) -> None:
    ended = leadlog("webhooks", "reconcile")
    assert ended.code == EXIT_DIFFERENT
    assert "1 deliveries for 1 webhooks" in ended.out
    assert f"{endpoint_id} of tenant" in ended.out
    assert "1 expected, 1 missing, 0 double, 0 that should not be" in ended.out


def test_reconcile_says_how_far_it_could_look_when_fan_out_lags(
    leadlog: Command, endpoint_id: str, database_url: str
) -> None:
    execute(database_url, FILE, None)
    execute(database_url, CUT)
    execute(database_url, "UPDATE tick SET at = at - interval '2 minutes' WHERE tick = 3")
    ended = leadlog("webhooks", "reconcile")
    assert (ended.code, endpoint_id in ended.out) == (EXIT_DIFFERENT, False)
    beyond = datetime.now(UTC) - timedelta(minutes=2)
    assert f"Not proven beyond {beyond:%Y-%m-%d %H:}" in ended.out
    assert f" to {beyond:%Y-%m-%d %H:}" in ended.out


def test_reconcile_goes_back_no_further_than_what_is_kept(
    leadlog: Command, endpoint_id: str
) -> None:
    leadlog.set("EVENT_RETENTION_DAYS", "7")
    first = datetime.now(UTC) - timedelta(days=7)
    for hours, is_said in (("24", False), ("1440", True)):
        ended = leadlog("webhooks", "reconcile", "--hours", hours)
        assert endpoint_id in ended.out
        said = f"to be compared from {first:%Y-%m-%d}" in ended.out and f" from {first:%Y-%m-%d}"
        assert bool(said and said in ended.out) is is_said


@pytest.mark.parametrize("error", [None, "event_expired"])
def test_reconcile_says_that_all_is_there_and_what_was_given_up(
    leadlog: Command, endpoint_id: str, database_url: str, error: str | None
) -> None:
    execute(database_url, FILE, error)
    ended = leadlog("webhooks", "reconcile", "--hours", "1")
    assert ended.code == 0
    assert "Nothing is missing, nothing is double." in ended.out
    gone = f"{endpoint_id} of tenant" in ended.out and "1 deliveries were given up" in ended.out
    assert gone is (error is not None)


def test_rotate_key_seals_all_secrets_anew(leadlog: Command, endpoint_id: str) -> None:
    assert endpoint_id
    leadlog.set("SECRET_KEY", f"{'B' * 42}A=,{SECRET_KEY}")
    assert "1 values sealed anew" in leadlog("webhooks", "rotate-key").out
    assert "0 values sealed anew" in leadlog("webhooks", "rotate-key").out
    leadlog.set("SECRET_KEY", f"{'C' * 42}A=")
    assert "Not all could be sealed anew" in leadlog("webhooks", "rotate-key").sentence
