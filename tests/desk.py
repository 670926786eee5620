"""An endpoint and its deliveries, for dispatchers that are driven by hand."""

import asyncio
from collections.abc import Sequence
from typing import Any

import sql
from service.secretbox import make_box
from service.validation import decode_body
from service.webhooks.changes import EndpointPatch, change_endpoint
from service.webhooks.endpoints import EventType, NewEndpoint, create_endpoint, open_box
from tests.factories import make_tenant
from tests.webhooks import SECRET, wait_until
from tests.workbench import Workbench
from workers.dispatcher import Dispatcher
from workers.slices import Workshop


class Desk:
    """An endpoint and deliveries for it, written as fan-out writes them."""

    def __init__(self, shop: Workshop, tenant_id: int, endpoint_id: str) -> None:
        self.shop, self.tenant_id, self.id = shop, tenant_id, endpoint_id
        self.pool = shop.pool

    async def add(self, *leads: tuple[str, int]) -> None:
        """A delivery for each lead and version, in this order."""
        count = len(leads)
        tenants, lives = [self.tenant_id] * count, [True] * count
        events = [f"evt_{lead}_{version}" for lead, version in leads]
        names, versions = [lead for lead, _ in leads], [version for _, version in leads]
        await self.pool.execute(
            sql.delivery_insert_many, tenants, lives, events, ["lead.updated"] * count, names,
            versions, [b'{"n":1}'] * count, [1] * count, [self.id] * count,
            list(range(1, count + 1)),
        )  # fmt: skip

    async def drain(self, *dispatchers: Dispatcher, left: int = 0) -> None:
        """Lets them work until so many deliveries are left."""

        async def look() -> bool:
            await asyncio.gather(*(dispatcher.once() for dispatcher in dispatchers))
            count = await self.pool.fetchval(
                "SELECT count(*) FROM delivery WHERE endpoint_id = $1", self.id
            )
            return bool(count <= left)

        await wait_until(look, 30)

    async def land(self, dispatcher: Dispatcher) -> None:
        """Lets it send what is due now, to the end of each attempt."""
        while await dispatcher.once() or dispatcher._flights:
            if dispatcher._flights:
                await asyncio.wait(dispatcher._flights, return_when=asyncio.FIRST_COMPLETED)

    async def rows(self) -> list[Any]:
        return await self.pool.fetch(
            "SELECT id, event_id, attempts, lost, token, leased_until, yields, last_error, "
            "extract(epoch FROM due_at - created_at)::float8 AS put_off_s FROM delivery ORDER BY id"
        )

    async def finals(self) -> list[Any]:
        return await self.pool.fetch(
            "SELECT id, event_id, outcome, attempts, last_error FROM delivery_final ORDER BY id"
        )


async def open_desk(
    bench: Workbench,
    url: str,
    *,
    tenant_id: int | None = None,
    events: Sequence[EventType] = ("lead.updated",),
) -> Desk:
    """Of a tenant of its own, unless one is named."""
    async with bench.pool.acquire() as conn, conn.transaction():
        whose = (await make_tenant(conn)).id if tenant_id is None else tenant_id
        made = await create_endpoint(
            conn, open_box(bench.shop.settings), whose, True,
            NewEndpoint(url=url, events=list(events), secret=SECRET),
        )  # fmt: skip
    return Desk(bench.shop, whose, made.id)


async def close(*dispatchers: Dispatcher) -> None:
    """As when the process stops."""
    for dispatcher in dispatchers:
        dispatcher._shop.stopping.set()
        await dispatcher.close()
        dispatcher._shop.stopping.clear()


async def patch(desk: Desk, body: str) -> None:
    """As the API does it."""
    async with desk.pool.acquire() as conn, conn.transaction():
        changed = decode_body(body.encode(), EndpointPatch)
        box = make_box(desk.shop.settings)
        assert await change_endpoint(conn, box, desk.tenant_id, True, desk.id, changed)
