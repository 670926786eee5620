"""Search maintenance removes the words of deleted leads and keeps the words of existing leads."""

import asyncio

import structlog

from service.database.connect import Pool
from tests.harness.factories import make_lead, make_tenant
from tests.harness.worker_harness import WorkerHarness
from workers.search_maintenance import SearchMaintenance

MAKE_DUE = "UPDATE lead_word_sweep SET at = '-infinity'"
AN_HOUR_AGO = "UPDATE lead_word SET unused_since = unused_since - interval '61 minutes'"


async def sweep(harness: WorkerHarness, rounds: int = 4) -> None:
    """Runs `rounds` rounds of search maintenance, each due at once."""
    for _ in range(rounds):
        await harness.pool.execute(MAKE_DUE)
        assert await SearchMaintenance(harness.context).once() == 0


async def read_words(pool: Pool, tenant_id: int) -> set[str]:
    rows = await pool.fetch("SELECT word FROM lead_word WHERE tenant_id = $1", tenant_id)
    return {row["word"] for row in rows}


async def test_words_of_a_deleted_lead_are_removed_after_an_hour(harness: WorkerHarness) -> None:
    tenant_id = harness.principal.tenant_id
    gone = await make_lead(harness.pool, tenant_id, email="a@x.io", name="Anna Quicksilver")
    await make_lead(harness.pool, tenant_id, email="b@x.io", name="Anna Bergmann")
    await harness.pool.execute("DELETE FROM lead WHERE id = $1", gone)
    await sweep(harness)
    assert await read_words(harness.pool, tenant_id) == {"anna", "bergmann", "quicksilver"}
    await harness.pool.execute(AN_HOUR_AGO)
    await sweep(harness)
    assert await read_words(harness.pool, tenant_id) == {"anna", "bergmann"}


async def test_a_marked_word_that_is_used_again_stays(harness: WorkerHarness) -> None:
    tenant_id = harness.principal.tenant_id
    gone = await make_lead(harness.pool, tenant_id, email="a@x.io", name="Quicksilver")
    await harness.pool.execute("DELETE FROM lead WHERE id = $1", gone)
    await sweep(harness)
    await make_lead(harness.pool, tenant_id, email="b@x.io", name="Quicksilver")
    await harness.pool.execute(AN_HOUR_AGO)
    await sweep(harness)
    words = await harness.pool.fetch(
        "SELECT word FROM lead_word WHERE tenant_id = $1 AND unused_since IS NULL", tenant_id
    )
    assert {row["word"] for row in words} == {"quicksilver"}


async def test_a_word_marked_during_a_transaction_that_uses_it_stays(
    harness: WorkerHarness,
) -> None:
    tenant_id = harness.principal.tenant_id
    first = await make_lead(harness.pool, tenant_id, email="a@x.io", name="Quicksilver")
    async with harness.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()  # finds the word and so does not insert it
        await make_lead(conn, tenant_id, email="b@x.io", name="Quicksilver")
        await harness.pool.execute("DELETE FROM lead WHERE id = $1", first)
        await sweep(harness)
        await transaction.commit()
    await harness.pool.execute(AN_HOUR_AGO)
    await sweep(harness)
    assert await read_words(harness.pool, tenant_id) == {"quicksilver"}


async def test_counters_are_checked_at_the_end_of_a_sweep(harness: WorkerHarness) -> None:
    tenant_id = harness.principal.tenant_id
    await make_lead(harness.pool, tenant_id)
    await harness.pool.execute("UPDATE lead_count SET n = 5 WHERE tenant_id = $1", tenant_id)
    with structlog.testing.capture_logs() as lines:
        await sweep(harness)
    total = await harness.pool.fetchval(
        "SELECT sum(n) FROM lead_count WHERE tenant_id = $1", tenant_id
    )
    assert total == 1
    [line] = [line for line in lines if line["event"] == "counts.corrected"]
    assert (line["tenant_id"], line["live"], line["groups"]) == (tenant_id, True, ["new/api"])


async def test_concurrent_maintenance_runs_a_due_sweep(harness: WorkerHarness) -> None:
    await harness.pool.execute(MAKE_DUE)
    await asyncio.gather(*(SearchMaintenance(harness.context).once() for _ in range(4)))
    assert await harness.pool.fetch("SELECT FROM lead_word_sweep WHERE at > now() - interval '9 s'")


async def test_pending_entries_are_merged(harness: WorkerHarness) -> None:
    async with harness.pool.acquire() as conn:
        tenant = await make_tenant(conn)
    await make_lead(harness.pool, tenant.id, name="Anna")
    await SearchMaintenance(harness.context).once()
    assert await harness.pool.fetchval("SELECT lead_search_clean_pending()") == 0


async def test_counters_of_surplus_slots_are_merged(harness: WorkerHarness) -> None:
    tenant_id = harness.principal.tenant_id
    await make_lead(harness.pool, tenant_id)
    await harness.pool.execute("UPDATE lead_count SET slot = 4711 WHERE tenant_id = $1", tenant_id)
    await sweep(harness, rounds=1)
    slots = await harness.pool.fetch(
        "SELECT slot, n FROM lead_count WHERE tenant_id = $1", tenant_id
    )
    assert [(row["slot"], row["n"]) for row in slots] == [(0, 1)]
