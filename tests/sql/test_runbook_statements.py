"""The SQL statements in the runbook work as described."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.harness.cluster import Cluster
from tests.harness.documents import find_blocks, read
from tests.harness.factories import make_lead, make_tenant

RUNBOOK = read("deploy/RUNBOOK.md")
SEARCH = "SELECT tenant_id, live, id, status_source, score, text, keys FROM lead_search ORDER BY id"
SCORES = "SELECT tenant_id, live, id, status_source, score, created_at FROM lead_score ORDER BY id"


def find_block(beginning: str) -> str:
    (block,) = [block for block in find_blocks(RUNBOOK) if block.startswith(beginning)]
    return block


@pytest.fixture
async def filled(cluster: Cluster) -> AsyncIterator[asyncpg.Connection]:
    """The database owner's connection to a database with leads of tenant 1."""
    async with cluster.make_database() as dsn:
        conn = await asyncpg.connect(dsn)
        tenant = await make_tenant(conn)
        assert tenant.id == 1
        for name in ("김민수", "Sarah Chen", None):
            await make_lead(conn, tenant.id, name=name)
        yield conn
        await conn.close()


async def test_the_check_of_counters_returns_only_wrong_counters(
    filled: asyncpg.Connection,
) -> None:
    count = find_block("WITH counted")
    assert await filled.fetch(count) == []
    await filled.execute("UPDATE lead_count SET n = n + 1 WHERE n > 0")
    assert len(await filled.fetch(count)) == 1


async def test_rebuilt_rows_equal_the_old_ones(filled: asyncpg.Connection) -> None:
    before, scores = await filled.fetch(SEARCH), await filled.fetch(SCORES)
    assert len(before) == len(scores) == 3
    await filled.execute("UPDATE lead_score SET rules = 'r' WHERE id = $1", scores[0]["id"])
    await filled.execute("UPDATE lead_score SET score = 9 WHERE id = $1", scores[1]["id"])
    await filled.execute("DELETE FROM lead_score WHERE id = $1", scores[2]["id"])
    await filled.execute("UPDATE lead_search SET text = ''")
    await filled.execute("DELETE FROM lead_word")
    await filled.execute(find_block("BEGIN;"))
    assert await filled.fetch(SEARCH) == before
    assert await filled.fetch(SCORES) == scores
    stale = await filled.fetch("SELECT id FROM lead_score WHERE stale_at <= now() ORDER BY id")
    assert [row["id"] for row in stale] == [
        row["id"] for row in scores[1:]
    ]  # only their explanations are missing
    assert await filled.fetchval("SELECT count(*) FROM lead_word WHERE word = 'sarah'") == 1


@pytest.mark.parametrize("name", ["lead_search_tokens", "lead_word_by_part"])
async def test_the_indexes_that_the_runbook_rebuilds_exist(
    filled: asyncpg.Connection, name: str
) -> None:
    assert f"`REINDEX INDEX CONCURRENTLY {name}`" in RUNBOOK or f"`{name}`" in RUNBOOK
    await filled.execute(f"REINDEX INDEX CONCURRENTLY {name}")


async def test_old_secrets_expire(filled: asyncpg.Connection) -> None:
    statement = "UPDATE endpoint_secret SET expires_at = now() WHERE expires_at IS NOT NULL"
    assert f"`{statement}`" in RUNBOOK
    assert await filled.execute(statement) == "UPDATE 0"
