"""/v1/webhooks/{id}/deliveries and /test: lists, shows, resends and tests deliveries."""

from service.errors import Conflict, NotFound
from service.http.request import Request
from service.http.responses import Response, reply
from service.webhooks.deliveries import (
    DeliveryQuery,
    DeliveryStarted,
    get_delivery,
    list_deliveries,
    parse_delivery_id,
    resend_delivery,
    send_test,
)
from service.webhooks.endpoints import get_endpoint


async def list_webhook_deliveries(request: Request) -> Response:
    """GET: a page of deliveries, newest first."""
    query, owner_and_id = request.query(DeliveryQuery), request.owner_and_id
    async with request.connection() as conn:
        await get_endpoint(conn, *owner_and_id)
        return reply(await list_deliveries(conn, *owner_and_id, query))


async def get_webhook_delivery(request: Request) -> Response:
    """GET one: a delivery with its attempts."""
    owner_and_id, delivery_id = request.owner_and_id, _find_delivery_id(request)
    async with request.connection() as conn:
        found = await get_delivery(conn, *owner_and_id, delivery_id)
    if found is None:
        raise _no_delivery()
    return reply(found)


async def resend_webhook_delivery(request: Request) -> Response:
    """POST resend: 202. A waiting delivery is due at once; a finished one is sent again."""
    owner_and_id, delivery_id = request.owner_and_id, _find_delivery_id(request)
    async with request.connection() as conn:
        started = await resend_delivery(conn, *owner_and_id, delivery_id)
        if started is None and await get_delivery(conn, *owner_and_id, delivery_id) is not None:
            raise Conflict("The event of this delivery is no longer kept.")
    if started is None:
        raise _no_delivery()
    request.state.wakeups.notify("delivery")
    return reply(DeliveryStarted(delivery_id=started), 202)


async def test_webhook(request: Request) -> Response:
    """POST test: 202; a test event of the endpoint's first event type is sent."""
    owner_and_id = request.owner_and_id
    async with request.connection() as conn:
        endpoint = await get_endpoint(conn, *owner_and_id)
        if endpoint.status != "active":
            raise Conflict(f"This webhook is {endpoint.status}; make it active to test it.")
        started = await send_test(conn, *owner_and_id, endpoint.events[0])
    request.state.wakeups.notify("delivery")
    return reply(DeliveryStarted(delivery_id=started), 202)


def _find_delivery_id(request: Request) -> int:
    found = parse_delivery_id(request.path_params["deliveryId"])
    if found is None:
        raise _no_delivery()
    return found


def _no_delivery() -> NotFound:
    return NotFound("This webhook has no such delivery.")
