"""The whole service in one process, for tests of webhooks: API, workers, and tools to look on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from service.db import Pool
from service.settings import Settings
from tests.factories import make_tenant
from tests.receiver import Receiver
from tests.serving import Api, serve_api
from workers.main import work

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
POLL_S = 0.02


@dataclass(frozen=True)
class House:
    """A tenant's view of the running service, and ours of its database."""

    api: Api
    pool: Pool

    async def add_webhook(self, url: str, *events: str, **fields: Any) -> str:
        """The id of a new webhook."""
        body = {"url": url, "events": list(events or ("lead.created",)), **fields}
        answer = await self.api.post("/v1/webhooks", {"secret": SECRET, **body})
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    async def add_lead(self, email: str, **fields: Any) -> str:
        answer = await self.api.post("/v1/leads", {"email": email, **fields})
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    async def finals(self, endpoint_id: str) -> list[Any]:
        """Its finished deliveries."""
        return await self.pool.fetch(
            "SELECT id, event_id, type, lead_id, version, outcome, attempts, last_status, "
            "last_error, cause FROM delivery_final WHERE endpoint_id = $1 ORDER BY finished_at, id",
            endpoint_id,
        )

    async def pending(self, endpoint_id: str) -> list[Any]:
        """Its unfinished ones."""
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

    async def wait_settled(self, endpoint_id: str, count: int) -> list[Any]:
        """Its finished deliveries, once there are `count`."""

        async def look() -> list[Any]:
            found = await self.finals(endpoint_id)
            return found if len(found) >= count else []

        found: list[Any] = await wait_until(look)
        return found

    async def hurry(self, endpoint_id: str) -> None:
        """Makes what waits for another try due now."""
        await self.pool.execute(
            "UPDATE delivery SET due_at = now() WHERE endpoint_id = $1 AND leased_until IS NULL",
            endpoint_id,
        )


async def wait_until(look: Callable[[], Awaitable[Any]], timeout_s: float = 15.0) -> Any:
    """What `look` finds, once it finds something. For what announces itself nowhere: rows."""
    async with asyncio.timeout(timeout_s):
        while not (found := await look()):  # noqa: ASYNC110  # rows announce nothing
            await asyncio.sleep(POLL_S)
    return found


@asynccontextmanager
async def run_house(settings: Settings, pool: Pool) -> AsyncIterator[House]:
    """API and workers, and a tenant of one's own."""
    async with serve_api(settings) as url, work(settings), aiohttp.ClientSession() as session:
        async with pool.acquire() as conn:
            tenant = await make_tenant(conn)
        yield House(Api(url, session, tenant, tenant.key()), pool)


async def count_events(pool: Pool, tenant_id: int) -> int:
    """The stored events of a tenant that some endpoint wanted."""
    found: int = await pool.fetchval(
        "SELECT count(*) FROM webhook_event WHERE tenant_id = $1", tenant_id
    )
    return found


def ids_of(receiver: Receiver) -> list[str]:
    return [received.id for received in receiver.received]
