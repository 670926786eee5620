"""/v1/webhooks/{id}/deliveries and /test: what an endpoint got, gets, and gets again."""

from starlette.responses import Response

from service.errors import Conflict, NotFound
from service.http.call import Call
from service.http.replies import reply
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


async def list_webhook_deliveries(call: Call) -> Response:
    """GET: a page of deliveries, newest first."""
    query, whose = call.query(DeliveryQuery), call.whose
    async with call.connection() as conn:
        await get_endpoint(conn, *whose)
        return reply(await list_deliveries(conn, *whose, query))


async def get_webhook_delivery(call: Call) -> Response:
    """GET one: with its attempts."""
    whose, delivery_id = call.whose, _find_delivery_id(call)
    async with call.connection() as conn:
        found = await get_delivery(conn, *whose, delivery_id)
    if found is None:
        raise _no_delivery()
    return reply(found)


async def resend_webhook_delivery(call: Call) -> Response:
    """POST resend: 202; what waits is due at once, what is finished goes out again."""
    whose, delivery_id = call.whose, _find_delivery_id(call)
    async with call.connection() as conn:
        started = await resend_delivery(conn, *whose, delivery_id)
        if started is None and await get_delivery(conn, *whose, delivery_id) is not None:
            raise Conflict("The event of this delivery is no longer kept.")
    if started is None:
        raise _no_delivery()
    call.state.wakeups.notify("delivery")
    return reply(DeliveryStarted(delivery_id=started), 202)


async def test_webhook(call: Call) -> Response:
    """POST test: 202; a made-up event of the first type the endpoint wants is on its way."""
    whose = call.whose
    async with call.connection() as conn:
        endpoint = await get_endpoint(conn, *whose)
        if endpoint.status != "active":
            raise Conflict(f"This webhook is {endpoint.status}; make it active to test it.")
        started = await send_test(conn, *whose, endpoint.events[0])
    call.state.wakeups.notify("delivery")
    return reply(DeliveryStarted(delivery_id=started), 202)


def _find_delivery_id(call: Call) -> int:
    found = parse_delivery_id(call.path_params["deliveryId"])
    if found is None:
        raise _no_delivery()
    return found


def _no_delivery() -> NotFound:
    return NotFound("This webhook has no such delivery.")
