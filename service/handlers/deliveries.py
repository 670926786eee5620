"""/v1/webhooks/{id}/deliveries and /test: lists, shows, resends and tests deliveries."""

from service.database.connect import Connection
from service.database.hidden_numbers import NumberCipher
from service.errors import Conflict, NotFound
from service.events.event_types import expand_patterns
from service.http.request import Request
from service.http.responses import Response, reply
from service.webhooks.deliveries import (
    DeliveryDetail,
    DeliveryQuery,
    DeliveryStarted,
    WebhookTest,
    get_delivery,
    list_deliveries,
    resend_delivery,
    send_test,
)
from service.webhooks.endpoints import get_endpoint


async def list_webhook_deliveries(request: Request) -> Response:
    """GET: a page of deliveries, newest first."""
    query, owner_and_id = request.query(DeliveryQuery), request.owner_and_id
    cipher = await request.state.numbers.open()
    async with request.connection() as conn:
        await get_endpoint(conn, *owner_and_id)
        return reply(await list_deliveries(conn, cipher, *owner_and_id, query))


async def get_webhook_delivery(request: Request) -> Response:
    """GET one: a delivery with its attempts."""
    owner_and_id, delivery_id = request.owner_and_id, request.path_id("deliveryId")
    cipher = await request.state.numbers.open()
    async with request.connection() as conn:
        return reply(await _find_delivery(conn, cipher, *owner_and_id, delivery_id))


async def resend_webhook_delivery(request: Request) -> Response:
    """POST resend: 202. A waiting delivery is due at once; a finished one is sent again."""
    owner_and_id, delivery_id = request.owner_and_id, request.path_id("deliveryId")
    cipher = await request.state.numbers.open()
    async with request.connection() as conn:
        started = await resend_delivery(conn, cipher, *owner_and_id, delivery_id)
        if started is None:
            await _find_delivery(conn, cipher, *owner_and_id, delivery_id)
            raise Conflict("The event of this delivery is no longer kept.")
    request.state.wakeups.notify("delivery")
    return reply(DeliveryStarted(delivery_id=started), 202)


async def test_webhook(request: Request) -> Response:
    """POST test: 202; a test event is sent, also of a type to which nobody subscribes."""
    wanted, owner_and_id = await request.body(WebhookTest), request.owner_and_id
    cipher = await request.state.numbers.open()
    async with request.connection() as conn:
        endpoint = await get_endpoint(conn, *owner_and_id)
        if endpoint.status != "active":
            raise Conflict(f"This webhook is {endpoint.status}; make it active to test it.")
        event_type = wanted.type or expand_patterns(endpoint.events[:1])[0]
        started = await send_test(conn, cipher, *owner_and_id, event_type)
    request.state.wakeups.notify("delivery")
    return reply(DeliveryStarted(delivery_id=started), 202)


async def _find_delivery(
    conn: Connection,
    cipher: NumberCipher,
    tenant_id: int,
    live: bool,
    endpoint_id: str,
    delivery_id: str,
) -> DeliveryDetail:
    """Read a delivery. Raises NotFound if the webhook does not exist, or has no such delivery."""
    found = await get_delivery(conn, cipher, tenant_id, live, endpoint_id, delivery_id)
    if found is None:
        await get_endpoint(conn, tenant_id, live, endpoint_id)
        raise NotFound("This webhook has no such delivery.")
    return found
