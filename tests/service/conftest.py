"""Fixtures: `api` calls the running app as a new tenant; `other` is a second new tenant.

`fresh` calls it as a tenant of one test, whose lists show nothing else.
"""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from service.database.connect import Pool
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.harness.factories import Tenant, make_tenant


@pytest.fixture(scope="session")
def settings(settings: Settings) -> Settings:
    """Settings that log errors only and have a `doc_url` that differs from the default."""
    return replace(settings, log_level="error", public_docs_url="https://leadlog.test/docs")


@pytest.fixture(scope="session")
async def server(settings: Settings) -> AsyncIterator[str]:
    """The address of the running app, one for all tests of a process."""
    async with serve_api(settings) as url:
        yield url


@pytest.fixture(scope="session")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


@pytest.fixture(scope="module")
async def tenant(pool: Pool) -> Tenant:
    async with pool.acquire() as conn:
        return await make_tenant(conn)


@pytest.fixture(scope="module")
async def other(pool: Pool) -> Tenant:
    async with pool.acquire() as conn:
        return await make_tenant(conn)


@pytest.fixture(scope="module")
def api(server: str, session: aiohttp.ClientSession, tenant: Tenant) -> Api:
    return Api(server, session, tenant, tenant.key())


@pytest.fixture
async def fresh(api: Api, committed: Pool) -> Api:
    async with committed.acquire() as conn:
        return api.of(await make_tenant(conn))


@pytest.fixture
async def nothing_written(pool: Pool) -> AsyncIterator[None]:
    """Fails a test that changes a lead, logs an event, or creates or revokes a key."""
    before = await digest_data(pool)
    yield
    assert await digest_data(pool) == before


async def digest_data(pool: Pool) -> list[tuple[int, str]]:
    """Count and digest of each table that a request may write."""
    digests: list[Any] = []
    for columns in (
        "lead AS t",
        "outbox AS t",
        "(SELECT id, name, scope, hash, expires_at, revoked_at FROM api_key) AS t",
    ):
        digests += await pool.fetch(
            "SELECT count(*), coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '')"
            f" FROM {columns}"
        )
    return [(count, digest) for count, digest in digests]
