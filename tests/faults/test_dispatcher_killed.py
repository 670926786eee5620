"""Dispatchers killed under load, against a ledger that the receiver keeps."""

import asyncio

from service.db import Pool
from service.settings import Settings
from service.webhooks import NewEndpoint, create_endpoint, open_box
from tests.bench.webhooks.stage import start
from tests.factories import make_tenant
from tests.faults.ledger import Ledger, read_id
from tests.receiver import run_receiver
from workers.lane import MAX_WINDOW
from workers.settling import MAX_BATCH

KILLS = 4
LEADS, VERSIONS = 150, 8


async def test_kill_9_loses_nothing_and_keeps_every_leads_order(
    committed: Pool, settings: Settings
) -> None:
    ledger = Ledger(0.005, read=read_id)
    async with run_receiver(ledger.answer) as receiver:
        await fill(committed, settings, receiver.url)
        for kill in range(KILLS + 1):
            async with start(settings, "-m", "tests.bench.webhooks.sender") as sender:
                await sender.read_line()
                wanted = LEADS * VERSIONS * (kill + 1) // (KILLS + 1)
                async with asyncio.timeout(60):
                    while await count_done(committed) < wanted:  # noqa: ASYNC110  # rows announce nothing
                        await asyncio.sleep(0.02)
            # The process is dead, and so are the leases that it held: time is what ends them.
            await committed.execute(
                "UPDATE delivery SET leased_until = now() - interval '1 second' "
                "WHERE leased_until IS NOT NULL"
            )
    events = {(f"l{n}", v) for n in range(LEADS) for v in range(1, VERSIONS + 1)}
    ledger.compare("kill -9", KILLS, events, KILLS * (int(MAX_WINDOW) + MAX_BATCH)).check()


async def fill(pool: Pool, settings: Settings, url: str) -> None:
    async with pool.acquire() as conn, conn.transaction():
        tenant = await make_tenant(conn)
        new = NewEndpoint(url=url, events=["lead.updated"])
        made = await create_endpoint(conn, open_box(settings), tenant.id, True, new)
        await conn.execute(
            "INSERT INTO webhook_event (tenant_id, live, event_id, stored_at, type, lead_id, "
            "version, body) SELECT $1, true, 'evt_l' || n || '_' || v, now(), 'lead.updated', "
            "'l' || n, v, '{}' FROM generate_series(0, $2 - 1) n, generate_series(1, $3) v",
            tenant.id, LEADS, VERSIONS,
        )  # fmt: skip
        await conn.execute(
            "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, "
            "lead_id, version, due_at, created_at) SELECT $1, true, $4, 'evt_l' || n || '_' || v, "
            "now(), 'lead.updated', 'l' || n, v, now(), now() "
            "FROM generate_series(1, $3) v, generate_series(0, $2 - 1) n",
            tenant.id, LEADS, VERSIONS, made.id,
        )  # fmt: skip


async def count_done(pool: Pool) -> int:
    found: int = await pool.fetchval("SELECT count(*) FROM delivery_final")
    return found
