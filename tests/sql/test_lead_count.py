"""The counters equal the numbers of leads after any statement and with any number of writers."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import pytest

import sql
from service.database.connect import Pool
from service.leads.status_source import SOURCES, STATUSES, list_status_source_codes
from tests.harness.factories import make_lead, make_tenant

WRITERS = 8
LAST_SLOT = 63
"""The last usual slot; slots above it are surplus."""
_COUNTED = """
SELECT status, source, count(*) AS n FROM lead WHERE tenant_id = $1 AND live GROUP BY 1, 2
"""
_STORED = """
SELECT status, source, sum(n) AS n FROM lead_count WHERE tenant_id = $1 AND live
GROUP BY 1, 2 HAVING sum(n) <> 0
"""


async def read(pool: Pool, statement: str, tenant_id: int) -> dict[tuple[str, str], int]:
    rows = await pool.fetch(statement, tenant_id)
    return {(row["status"], row["source"]): int(row["n"]) for row in rows}


@pytest.fixture
async def tenant_id(committed: Pool) -> int:
    async with committed.acquire() as conn:
        return (await make_tenant(conn)).id


async def test_each_write_changes_the_counters_and_a_rollback_does_not(
    committed: Pool, tenant_id: int
) -> None:
    one = await make_lead(committed, tenant_id, status="new", source="api")
    await make_lead(committed, tenant_id, status="lost", source="chat")
    await committed.execute(
        "UPDATE lead SET status = 'qualified', source = 'form' WHERE tenant_id = $1 AND id = $2",
        tenant_id, one,
    )  # fmt: skip
    assert await read(committed, _STORED, tenant_id) == {
        ("qualified", "form"): 1,
        ("lost", "chat"): 1,
    }
    async with committed.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("DELETE FROM lead WHERE tenant_id = $1", tenant_id)
        await transaction.rollback()
    assert sum((await read(committed, _STORED, tenant_id)).values()) == 2
    await committed.execute("DELETE FROM lead WHERE tenant_id = $1", tenant_id)
    assert await read(committed, _STORED, tenant_id) == {}


async def test_writers_in_long_transactions_do_not_wait_deadlock_or_lose_counts(
    committed: Pool, tenant_id: int
) -> None:
    """Each writer changes several statuses and sources in a random order, in one transaction."""

    async def write(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(5):
            async with committed.acquire() as conn, conn.transaction():
                for _ in range(5):
                    status, source = dice.choice(STATUSES), dice.choice(SOURCES)
                    lead_id = await make_lead(conn, tenant_id, status=status, source=source)
                    if dice.random() < 0.5:
                        await conn.execute(
                            "UPDATE lead SET status = $3, score = $4 "
                            "WHERE tenant_id = $1 AND id = $2",
                            tenant_id, lead_id, dice.choice(STATUSES), dice.randint(0, 100),
                        )  # fmt: skip
                if dice.random() < 0.3:
                    await conn.execute(
                        "DELETE FROM lead WHERE tenant_id = $1 AND id = $2", tenant_id, lead_id
                    )

    async def reconcile() -> None:
        """Finds nothing to correct, because one snapshot shows leads and counters."""
        while not written.is_set():
            assert await committed.fetch(sql.lead_count_reconcile, tenant_id, True) == []

    written = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(reconcile())
        await asyncio.gather(*(write(seed) for seed in range(WRITERS)))
        written.set()
    assert await read(committed, _STORED, tenant_id) == await read(committed, _COUNTED, tenant_id)


async def test_an_open_transaction_does_not_block_another_writer(
    committed: Pool, tenant_id: int
) -> None:
    async with committed.acquire() as first, committed.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        await make_lead(first, tenant_id)
        async with asyncio.timeout(5):
            await make_lead(second, tenant_id)
        await transaction.commit()
    assert await read(committed, _STORED, tenant_id) == {("new", "api"): 2}


_SLOTS = "SELECT DISTINCT slot FROM lead_count WHERE tenant_id = $1 ORDER BY slot"


async def list_slots(pool: Pool, tenant_id: int) -> list[int]:
    return [row["slot"] for row in await pool.fetch(_SLOTS, tenant_id)]


@asynccontextmanager
async def hold_all_slots(pool: Pool) -> AsyncIterator[None]:
    """Holds all usual slots, like 64 concurrent writers."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(
            "SELECT pg_try_advisory_xact_lock(1818583396, n) FROM generate_series(0, $1::int) AS n",
            LAST_SLOT,
        )
        yield


async def test_surplus_slots_are_merged_after_their_writers_have_committed(
    committed: Pool, tenant_id: int
) -> None:
    async with committed.acquire() as busy, committed.acquire() as done:
        async with hold_all_slots(committed):
            await make_lead(done, tenant_id)
            transaction = busy.transaction()
            await transaction.start()
            await make_lead(busy, tenant_id, status="lost")
            assert await committed.fetchval(sql.lead_count_merge, 100) == 0  # no slot to merge into
        assert min(await list_slots(committed, tenant_id)) > LAST_SLOT
        assert await committed.fetchval(sql.lead_count_merge, 100) == 1
        assert await list_slots(committed, tenant_id) == [0]
        await make_lead(busy, tenant_id)
        await transaction.commit()
    assert len(await list_slots(committed, tenant_id)) == 2
    assert await committed.fetchval(sql.lead_count_merge, 100) == 1
    assert await list_slots(committed, tenant_id) == [0]
    assert await read(committed, _STORED, tenant_id) == {("new", "api"): 2, ("lost", "api"): 1}
    assert await committed.fetch(sql.lead_count_reconcile, tenant_id, True) == []


async def test_no_writer_waits_while_surplus_slots_are_merged(
    committed: Pool, tenant_id: int
) -> None:
    async with committed.acquire() as writer, committed.acquire() as merger:
        async with hold_all_slots(committed):
            await make_lead(writer, tenant_id)
        transaction = merger.transaction()
        await transaction.start()
        assert await merger.fetchval(sql.lead_count_merge, 100) == 1
        async with asyncio.timeout(5):
            await make_lead(writer, tenant_id)
            async with hold_all_slots(committed):  # also its own slot, which is being merged
                await make_lead(writer, tenant_id)
        await transaction.commit()
    await committed.fetchval(sql.lead_count_merge, 100)
    assert max(await list_slots(committed, tenant_id)) <= LAST_SLOT
    assert await read(committed, _STORED, tenant_id) == {("new", "api"): 3}


async def test_reconciliation_corrects_wrong_counters_and_no_others(
    committed: Pool, tenant_id: int
) -> None:
    await make_lead(committed, tenant_id)
    assert await committed.fetch(sql.lead_count_reconcile, tenant_id, True) == []
    await committed.execute("UPDATE lead_count SET n = n + 3 WHERE tenant_id = $1", tenant_id)
    wrong: list[Any] = await committed.fetch(sql.lead_count_reconcile, tenant_id, True)
    assert [(row["status"], row["source"]) for row in wrong] == [("new", "api")]
    assert await read(committed, _STORED, tenant_id) == {("new", "api"): 1}


async def test_python_and_the_database_use_the_same_status_source_codes(pool: Pool) -> None:
    for status, source in product(STATUSES, SOURCES):
        number = await pool.fetchval("SELECT lead_status_source($1, $2)", status, source)
        assert list_status_source_codes(status, source) == (number,)
    assert list_status_source_codes(None, None) is None
    assert list_status_source_codes("new") == (0, 1, 2, 3)
