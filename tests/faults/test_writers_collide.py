"""Processes write the same leads and e-mails without deadlocks and without lost changes."""

import asyncio
import json
import sys
from collections import Counter
from typing import Any

import pytest

from service.database.connect import Pool
from tests.harness.factories import make_lead, make_tenant

PROCESSES = 4
LEADS = 8


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.timeout(200)
async def test_four_processes_write_the_same_leads_and_addresses_without_deadlock_or_loss(
    pool: Pool, database_url: str, redis_url: str, seconds: int
) -> None:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    leads = [await make_lead(pool, tenant.id) for _ in range(LEADS)]
    before = await count_deadlocks(pool)
    arguments = database_url, redis_url, str(tenant.id), str(seconds)
    reports = await asyncio.gather(
        *(run_writer(*arguments, str(n), *leads) for n in range(PROCESSES))
    )
    outcomes = sum((Counter(report["outcomes"]) for report in reports), Counter[str]())
    sys.stdout.write(json.dumps(outcomes, indent=2, sort_keys=True))  # seen with pytest -s

    assert await count_deadlocks(pool) == before
    assert not [kind for kind in outcomes if "internal" in kind]
    for act in ("create", "take_address", "count_up", "write_own"):
        assert outcomes[f"{act}: done"] > 0, outcomes
    assert outcomes["take_address: conflict"] > 0
    assert outcomes["count_up: precondition_failed"] > 0
    for lead_id in leads:
        fields = json.loads(
            await pool.fetchval("SELECT custom_fields FROM lead WHERE id = $1", lead_id)
        )
        assert fields.pop("count", 0) == sum(
            report["counted"].get(lead_id, 0) for report in reports
        )
        assert fields == {f"by{n}": report["latest"][lead_id] for n, report in enumerate(reports)}
    assert await pool.fetchval(GAPS, tenant.id) == []


GAPS = """
SELECT coalesce(array_agg(lead_id), '{}') FROM (
    SELECT lead_id FROM outbox WHERE tenant_id = $1 AND lead_id IN (
        SELECT id FROM lead WHERE tenant_id = $1)
    GROUP BY lead_id
    HAVING array_agg(version ORDER BY id) <>
        (SELECT array_agg(n::bigint) FROM generate_series(2, max(version)) AS n)
) AS broken
"""
"""Selects leads whose events do not have the versions 2, 3, 4 … in the order of the log."""


async def run_writer(*arguments: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.writer", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


async def count_deadlocks(pool: Pool) -> int:
    found: int = await pool.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    return found
