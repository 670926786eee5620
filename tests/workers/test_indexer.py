"""The indexer: no word of a lead that is gone stays, none of a lead that is there goes."""

import asyncio

import structlog

from service.db import Pool
from tests.factories import make_lead, make_tenant
from tests.workbench import Workbench
from workers.indexer import Indexer

SOON = "UPDATE lead_word_sweep SET at = '-infinity'"
AN_HOUR_AGO = "UPDATE lead_word SET unused_since = unused_since - interval '61 minutes'"


async def sweep(bench: Workbench, turns: int = 4) -> None:
    """From where it stands through all tenants."""
    for _ in range(turns):
        await bench.pool.execute(SOON)
        assert await Indexer(bench.shop).once() == 0


async def read_words(pool: Pool, tenant_id: int) -> set[str]:
    rows = await pool.fetch("SELECT word FROM lead_word WHERE tenant_id = $1", tenant_id)
    return {row["word"] for row in rows}


async def test_words_of_a_deleted_lead_are_forgotten_after_an_hour(bench: Workbench) -> None:
    tenant_id = bench.who.tenant_id
    gone = await make_lead(bench.pool, tenant_id, email="a@x.io", name="Anna Quicksilver")
    await make_lead(bench.pool, tenant_id, email="b@x.io", name="Anna Bergmann")
    await bench.pool.execute("DELETE FROM lead WHERE id = $1", gone)
    await sweep(bench)
    assert await read_words(bench.pool, tenant_id) == {"anna", "bergmann", "quicksilver"}
    await bench.pool.execute(AN_HOUR_AGO)
    await sweep(bench)
    assert await read_words(bench.pool, tenant_id) == {"anna", "bergmann"}


async def test_a_marked_word_that_comes_again_stays(bench: Workbench) -> None:
    tenant_id = bench.who.tenant_id
    gone = await make_lead(bench.pool, tenant_id, email="a@x.io", name="Quicksilver")
    await bench.pool.execute("DELETE FROM lead WHERE id = $1", gone)
    await sweep(bench)
    await make_lead(bench.pool, tenant_id, email="b@x.io", name="Quicksilver")
    await bench.pool.execute(AN_HOUR_AGO)
    await sweep(bench)
    words = await bench.pool.fetch(
        "SELECT word FROM lead_word WHERE tenant_id = $1 AND unused_since IS NULL", tenant_id
    )
    assert {row["word"] for row in words} == {"quicksilver"}


async def test_a_word_marked_while_a_writer_relied_on_it_stays(bench: Workbench) -> None:
    tenant_id = bench.who.tenant_id
    first = await make_lead(bench.pool, tenant_id, email="a@x.io", name="Quicksilver")
    async with bench.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()  # sees the word and does not bring it again
        await make_lead(conn, tenant_id, email="b@x.io", name="Quicksilver")
        await bench.pool.execute("DELETE FROM lead WHERE id = $1", first)
        await sweep(bench)
        await transaction.commit()
    await bench.pool.execute(AN_HOUR_AGO)
    await sweep(bench)
    assert await read_words(bench.pool, tenant_id) == {"quicksilver"}


async def test_counters_are_checked_at_the_end_of_a_sweep(bench: Workbench) -> None:
    tenant_id = bench.who.tenant_id
    await make_lead(bench.pool, tenant_id)
    await bench.pool.execute("UPDATE lead_count SET n = 5 WHERE tenant_id = $1", tenant_id)
    with structlog.testing.capture_logs() as lines:
        await sweep(bench)
    total = await bench.pool.fetchval(
        "SELECT sum(n) FROM lead_count WHERE tenant_id = $1", tenant_id
    )
    assert total == 1
    [line] = [line for line in lines if line["event"] == "counts.corrected"]
    assert (line["tenant_id"], line["live"], line["kinds"]) == (tenant_id, True, ["new/api"])


async def test_it_sweeps_once_a_minute_whoever_runs_it(bench: Workbench) -> None:
    await bench.pool.execute(SOON)
    await asyncio.gather(*(Indexer(bench.shop).once() for _ in range(4)))
    assert await bench.pool.fetch("SELECT FROM lead_word_sweep WHERE at > now() - interval '9 s'")


async def test_pending_entries_are_sorted_in(bench: Workbench) -> None:
    async with bench.pool.acquire() as conn:
        tenant = await make_tenant(conn)
    await make_lead(bench.pool, tenant.id, name="Anna")
    await Indexer(bench.shop).once()
    assert await bench.pool.fetchval("SELECT lead_search_settle()") == 0


async def test_counters_of_surplus_slots_are_merged(bench: Workbench) -> None:
    tenant_id = bench.who.tenant_id
    await make_lead(bench.pool, tenant_id)
    await bench.pool.execute("UPDATE lead_count SET slot = 4711 WHERE tenant_id = $1", tenant_id)
    await sweep(bench, turns=1)
    slots = await bench.pool.fetch("SELECT slot, n FROM lead_count WHERE tenant_id = $1", tenant_id)
    assert [(row["slot"], row["n"]) for row in slots] == [(0, 1)]
