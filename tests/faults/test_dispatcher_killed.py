"""Dispatchers are killed under load; the receiver's ledger shows lost and repeated events."""

from contextlib import AsyncExitStack

import asyncpg
import pytest

from service.database.connect import Pool
from service.encryption import open_encryptor
from service.settings import Settings
from service.webhooks.endpoints import NewEndpoint, create_endpoint
from tests.bench.webhooks.stage import Process, start
from tests.faults.ledger import Ledger, Outcome, read_id
from tests.harness.factories import make_tenant
from tests.harness.running_service import wait_until
from tests.loopback.receiver import run_receiver

KILLS, PARTS = 4, 2
ENDPOINTS, LEADS, VERSIONS = 6, 50, 8
EVENTS = {
    (f"e{endpoint}l{lead}", version)
    for endpoint in range(ENDPOINTS)
    for lead in range(LEADS)
    for version in range(1, VERSIONS + 1)
}


@pytest.mark.timeout(120)
async def test_kill_9_loses_nothing_and_keeps_every_leads_order(
    committed: Pool, settings: Settings, admin_conn: asyncpg.Connection, keep: list[Outcome]
) -> None:
    """Two dispatchers run side by side; they are killed in turn and replaced at once."""
    ledger, bound = Ledger(0.02, read=read_id), 0
    async with run_receiver(ledger.answer) as receiver, AsyncExitStack() as stack:
        await fill(committed, settings, receiver.url)
        senders = [await start_part(stack, settings, part) for part in range(PARTS)]
        for kill in range(KILLS):
            await wait_done(committed, len(EVENTS) * (kill + 1) // (KILLS + 2))
            victim = senders[kill % PARTS]
            victim.process.kill()
            await victim.process.wait()
            bound += await expire_leases(committed, admin_conn, kill % PARTS)
            senders[kill % PARTS] = await start_part(stack, settings, kill % PARTS)
        await wait_done(committed, len(EVENTS))
    flushed = await committed.fetchval(
        "SELECT max(count) FROM (SELECT count(*) FROM delivery_final GROUP BY finished_at) AS flush"
    )
    keep.append(ledger.compare("kill -9", KILLS, EVENTS, bound + KILLS * flushed))
    keep[-1].check()
    assert bound + KILLS * flushed < len(EVENTS) / 2  # else the bound would prove nothing


async def start_part(stack: AsyncExitStack, settings: Settings, part: int) -> Process:
    program = "-m", "tests.bench.webhooks.sender", str(part), str(PARTS)
    sender = await stack.enter_async_context(start(settings, *program))
    assert await sender.read_line() == "ready"
    return sender


async def wait_done(pool: Pool, wanted: int) -> None:
    async def look() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM delivery_final") >= wanted)

    await wait_until(look, 60)


async def expire_leases(pool: Pool, admin_conn: asyncpg.Connection, part: int) -> int:
    """Expires the leases of the part, whose process is dead; returns their number."""

    async def gone() -> bool:  # its last query may still be running
        sessions = await admin_conn.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' "
            "AND pid <> pg_backend_pid() AND query LIKE '%delivery d SET token%'"
        )
        return bool(sessions == 0)

    await wait_until(gone)
    expired = await pool.execute(
        "UPDATE delivery SET leased_until = now() - interval '1 second' "
        "WHERE leased_until IS NOT NULL "
        "AND (hashtextextended(endpoint_id, 0) & 1048575) % $2::bigint = $1::bigint", part, PARTS,
    )  # fmt: skip
    return int(expired.split()[1])


async def fill(pool: Pool, settings: Settings, url: str) -> None:
    for endpoint in range(ENDPOINTS):
        async with pool.acquire() as conn, conn.transaction():
            tenant = await make_tenant(conn)
            new = NewEndpoint(url=url, events=["lead.updated"])
            made = await create_endpoint(conn, open_encryptor(settings), tenant.id, True, new)
            await conn.execute(
                "INSERT INTO webhook_event (tenant_id, live, event_id, stored_at, type, lead_id, "
                "version, body) SELECT $1, true, 'evt_' || $4 || 'l' || n || '_' || v, now(), "
                "'lead.updated', $4 || 'l' || n, v, '{}' "
                "FROM generate_series(0, $2::integer - 1) n, generate_series(1, $3::integer) v",
                tenant.id, LEADS, VERSIONS, f"e{endpoint}",
            )  # fmt: skip
            await conn.execute(
                "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, "
                "lead_id, version, due_at, created_at) SELECT tenant_id, live, $2, event_id, "
                "stored_at, type, lead_id, version, now(), now() FROM webhook_event "
                "WHERE tenant_id = $1 ORDER BY version, lead_id",
                tenant.id, made.id,
            )  # fmt: skip
