"""API and workers in one process, for tests of webhooks, with queries on the database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg
import pytest

from service.database.connect import Pool
from service.database.hidden_numbers import HiddenNumbers
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.harness.cluster import reset_database
from tests.harness.factories import make_tenant
from tests.loopback.receiver import Receiver
from workers.main import work

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
POLL_S = 0.02


@dataclass(frozen=True)
class RunningService:
    """A tenant's API client and the database of a running service."""

    api: Api
    pool: Pool

    async def add_webhook(self, url: str, *events: str, **fields: Any) -> str:
        """Creates a webhook; returns its id."""
        body = {"url": url, "events": list(events or ("lead.created",)), **fields}
        response = await self.api.post("/v1/webhooks", {"secret": SECRET, **body})
        assert response.status == 201, response.body
        return str(response.json["id"])

    async def add_lead(self, email: str, **fields: Any) -> str:
        response = await self.api.post("/v1/leads", {"email": email, **fields})
        assert response.status == 201, response.body
        return str(response.json["id"])

    async def finals(self, endpoint_id: str) -> list[Any]:
        """The finished deliveries of an endpoint."""
        return await self.pool.fetch(
            "SELECT id, event_id, type, lead_id, version, outcome, attempts, last_status, "
            "last_error, cause FROM delivery_final WHERE endpoint_id = $1 ORDER BY finished_at, id",
            endpoint_id,
        )

    async def pending(self, endpoint_id: str) -> list[Any]:
        """The unfinished deliveries of an endpoint."""
        return await self.pool.fetch(
            "SELECT id, event_id, version, attempts, lost, yields, last_status, last_error, "
            "extract(epoch FROM due_at - now())::float8 AS due_in_s, leased_until, "
            "extract(epoch FROM deadline_at - now())::float8 AS left_s "
            "FROM delivery WHERE endpoint_id = $1 ORDER BY id",
            endpoint_id,
        )

    async def attempts(self, endpoint_id: str) -> list[Any]:
        return await self.pool.fetch(
            "SELECT delivery_id, number, status, error, dns_ms, connect_ms, wait_ms, total_ms, "
            "body, truncated FROM attempt WHERE endpoint_id = $1 ORDER BY at, number",
            endpoint_id,
        )

    async def wait_finished(self, endpoint_id: str, count: int) -> list[Any]:
        """The finished deliveries of an endpoint, once there are `count`."""

        async def look() -> list[Any]:
            found = await self.finals(endpoint_id)
            return found if len(found) >= count else []

        found: list[Any] = await wait_until(look)
        return found

    async def show_delivery_id(self, number: int) -> str:
        """The id of a delivery in the API."""
        cipher = await HiddenNumbers(self.pool).open()
        return f"dlv_{cipher.hide(self.api.tenant.id, True, number)}"

    async def make_due_now(self, endpoint_id: str) -> None:
        """Makes all waiting deliveries of an endpoint due."""
        await self.pool.execute(
            "UPDATE delivery SET due_at = now() WHERE endpoint_id = $1 AND leased_until IS NULL",
            endpoint_id,
        )


async def wait_until(look: Callable[[], Awaitable[Any]], timeout_s: float = 15.0) -> Any:
    """Polls `look` and returns its first true result; for rows, whose changes are not announced."""
    async with asyncio.timeout(timeout_s):
        while not (found := await look()):  # noqa: ASYNC110  # changes of rows are not announced
            await asyncio.sleep(POLL_S)
    return found


@asynccontextmanager
async def run_service(settings: Settings, pool: Pool) -> AsyncIterator[RunningService]:
    """Runs API and workers, with a new tenant."""
    async with serve_api(settings) as url, work(settings), aiohttp.ClientSession() as session:
        async with pool.acquire() as conn:
            tenant = await make_tenant(conn)
        yield RunningService(Api(url, session, tenant, tenant.key()), pool)


@pytest.fixture(scope="module")
async def running(
    settings: Settings, pool: Pool, admin_conn: asyncpg.Connection
) -> AsyncIterator[RunningService]:
    """API and workers, with a new tenant, for the tests of a module."""
    async with run_service(settings, pool) as service:
        yield service
    await reset_database(admin_conn)


async def count_events(pool: Pool, tenant_id: int) -> int:
    """The number of stored events of a tenant: events that some endpoint subscribes to."""
    found: int = await pool.fetchval(
        "SELECT count(*) FROM webhook_event WHERE tenant_id = $1", tenant_id
    )
    return found


def ids_of(receiver: Receiver) -> list[str]:
    return [received.id for received in receiver.received]
