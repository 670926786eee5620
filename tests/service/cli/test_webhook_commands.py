"""The commands `leadlog webhooks …`."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from service.settings import Settings
from tests.bench.webhooks.stage import make_endpoint, make_tenant
from tests.service.cli.commandline import SECRET_KEY, Command, bare, leadlog

__all__ = ["bare", "leadlog"]
EXIT_DIFFERENT = 1


@pytest.fixture
def endpoint_id(leadlog: Command, database_url: str, settings: Settings) -> str:
    """A webhook with an event of ten seconds ago for which it has no delivery."""
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


def test_reconcile_reports_missing_deliveries_and_exits_with_1(
    leadlog: Command, endpoint_id: str
) -> None:
    ended = leadlog("webhooks", "reconcile")
    assert ended.code == EXIT_DIFFERENT
    assert "1 delivery for 1 webhook from" in ended.out
    assert f"{endpoint_id} of tenant" in ended.out
    assert "1 expected, 1 missing, 0 duplicate, 0 unexpected" in ended.out


def test_reconcile_reports_how_far_it_could_check_when_fan_out_lags(
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


def test_reconcile_goes_back_no_further_than_the_stored_events(
    leadlog: Command, endpoint_id: str
) -> None:
    leadlog.set("EVENT_RETENTION_DAYS", "7")
    first = datetime.now(UTC) - timedelta(days=7)
    days = {f"{first + timedelta(hours=late):%Y-%m-%d}" for late in (0, 1)}  # times are rounded
    for hours, is_said in (("24", False), ("1440", True)):
        ended = leadlog("webhooks", "reconcile", "--hours", hours)
        assert endpoint_id in ended.out
        said = [f"The check begins at {day}" in ended.out for day in days]
        begun = [f" from {day}" in ended.out for day in days]
        assert (any(said) and any(begun)) is is_said


@pytest.mark.parametrize("error", [None, "event_expired"])
def test_reconcile_reports_that_nothing_is_missing_and_what_has_expired(
    leadlog: Command, endpoint_id: str, database_url: str, error: str | None
) -> None:
    execute(database_url, FILE, error)
    ended = leadlog("webhooks", "reconcile", "--hours", "1")
    assert ended.code == 0
    assert "No delivery is missing, duplicate or unexpected." in ended.out
    gone = f"{endpoint_id} of tenant" in ended.out and "1 delivery given up unsent" in ended.out
    assert gone is (error is not None)


def test_rotate_key_encrypts_all_secrets_again(leadlog: Command, endpoint_id: str) -> None:
    assert endpoint_id
    leadlog.set("SECRET_KEY", f"{'B' * 42}A=,{SECRET_KEY}")
    assert "Encrypted 1 value again" in leadlog("webhooks", "rotate-key").out
    assert "Encrypted 0 values again" in leadlog("webhooks", "rotate-key").out
    leadlog.set("SECRET_KEY", f"{'C' * 42}A=")
    assert "Not every value could be encrypted again" in leadlog("webhooks", "rotate-key").sentence
