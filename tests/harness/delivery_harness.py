"""An endpoint and its deliveries, for tests that call a dispatcher's `once()` themselves."""

import asyncio
from collections.abc import Sequence
from typing import Any

import sql
from service.encryption import make_encryptor, open_encryptor
from service.events.event_types import EventType
from service.validation.decoding import decode_body
from service.webhooks.endpoint_update import EndpointPatch, update_endpoint
from service.webhooks.endpoints import NewEndpoint, create_endpoint
from tests.harness.factories import make_tenant
from tests.harness.running_service import SECRET, wait_until
from tests.harness.worker_harness import WorkerHarness
from workers.dispatcher import Dispatcher
from workers.jobs import WorkerContext


class DeliveryHarness:
    """An endpoint, and deliveries to it that are written as fan-out writes them."""

    def __init__(self, context: WorkerContext, tenant_id: int, endpoint_id: str) -> None:
        self.context, self.tenant_id, self.id = context, tenant_id, endpoint_id
        self.pool = context.pool

    async def add(self, *leads: tuple[str, int]) -> None:
        """Adds a delivery for each lead and version, in this order."""
        count = len(leads)
        tenants, lives = [self.tenant_id] * count, [True] * count
        events = [f"evt_{lead}_{version}" for lead, version in leads]
        names, versions = [lead for lead, _ in leads], [version for _, version in leads]
        await self.pool.execute(
            sql.delivery_insert_many,
            tenants,
            lives,
            events,
            ["lead.updated"] * count,
            names,
            versions,
            [b'{"n":1}'] * count,
            [1] * count,
            [self.id] * count,
            list(range(1, count + 1)),
        )

    async def drain(self, *dispatchers: Dispatcher, left: int = 0) -> None:
        """Runs the dispatchers until at most `left` deliveries are unfinished."""

        async def is_drained() -> bool:
            await asyncio.gather(*(dispatcher.once() for dispatcher in dispatchers))
            count = await self.pool.fetchval(
                "SELECT count(*) FROM delivery WHERE endpoint_id = $1", self.id
            )
            return bool(count <= left)

        await wait_until(is_drained, 30)

    async def run_until_idle(self, dispatcher: Dispatcher) -> None:
        """Sends all deliveries that are due now and waits for the end of each attempt."""
        while await dispatcher.once() or dispatcher._in_flight:
            if dispatcher._in_flight:
                await asyncio.wait(dispatcher._in_flight, return_when=asyncio.FIRST_COMPLETED)

    async def rows(self) -> list[Any]:
        return await self.pool.fetch(
            "SELECT id, event_id, attempts, lost, token, leased_until, yields, last_error, "
            "extract(epoch FROM due_at - created_at)::float8 AS put_off_s FROM delivery ORDER BY id"
        )

    async def finals(self) -> list[Any]:
        return await self.pool.fetch(
            "SELECT id, event_id, outcome, attempts, last_error FROM delivery_final ORDER BY id"
        )


async def open_delivery_harness(
    harness: WorkerHarness,
    url: str,
    *,
    tenant_id: int | None = None,
    events: Sequence[EventType] = ("lead.updated",),
) -> DeliveryHarness:
    """A harness for a new endpoint, of a new tenant unless `tenant_id` is given."""
    async with harness.pool.acquire() as conn, conn.transaction():
        owner_id = (await make_tenant(conn)).id if tenant_id is None else tenant_id
        made = await create_endpoint(
            conn,
            open_encryptor(harness.context.settings),
            owner_id,
            True,
            NewEndpoint(url=url, events=list(events), secret=SECRET),
        )
    return DeliveryHarness(harness.context, owner_id, made.id)


async def close(*dispatchers: Dispatcher) -> None:
    """Closes dispatchers as a stopping process does."""
    for dispatcher in dispatchers:
        dispatcher._context.stopping.set()
        await dispatcher.close()
        dispatcher._context.stopping.clear()


async def patch(delivery_harness: DeliveryHarness, body: str) -> None:
    """Updates the endpoint as PATCH /v1/webhooks/{id} does."""
    async with delivery_harness.pool.acquire() as conn, conn.transaction():
        changed = decode_body(body.encode(), EndpointPatch)
        encryptor = make_encryptor(delivery_harness.context.settings)
        assert await update_endpoint(
            conn, encryptor, delivery_harness.tenant_id, True, delivery_harness.id, changed
        )
