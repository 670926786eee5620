"""/health/ready names a full disk for some seconds after a write has failed because of it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.harness.api_client import Api

FAIL = """
CREATE FUNCTION fail_as_on_a_full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON lead EXECUTE FUNCTION fail_as_on_a_full_disk();
"""


@pytest.fixture
async def full_disk(admin_conn: asyncpg.Connection) -> AsyncIterator[None]:
    await admin_conn.execute(FAIL)
    yield
    await admin_conn.execute("DROP FUNCTION fail_as_on_a_full_disk() CASCADE")


@pytest.mark.usefixtures("full_disk")
async def test_a_full_disk_is_named_for_a_while(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "disk" not in (await api.get("/health/ready")).json["checks"]
    refused = await api.post("/v1/leads", {"email": "ada@acme.com"})
    assert refused.status == 503
    assert "disk is full" in refused.error["message"]
    ready = await api.get("/health/ready")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert "the disk of the database is full" in ready.json["checks"]["disk"]
    monkeypatch.setattr("service.database.pool.DISK_FULL_LIFE_S", 0.0)
    async with asyncio.timeout(10):
        while "disk" in (await api.get("/health/ready")).json["checks"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
