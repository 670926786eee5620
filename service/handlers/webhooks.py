"""/v1/webhooks and /v1/webhooks/{id}."""

from starlette.responses import Response

from service.http.call import Call
from service.http.replies import no_content, reply
from service.webhooks.changes import EndpointPatch, change_endpoint, rotate_secret
from service.webhooks.endpoints import (
    EndpointList,
    NewEndpoint,
    check_target,
    create_endpoint,
    delete_endpoint,
    get_endpoint,
    list_endpoints,
    no_endpoint,
    open_box,
)


async def create_webhook(call: Call) -> Response:
    """POST: 201; a secret that we made is shown this once."""
    new, settings, principal = await call.body(NewEndpoint), call.state.settings, call.principal
    await check_target(new.url, private=settings.webhook_allow_private)
    box = open_box(settings)
    async with call.connection() as conn, conn.transaction():
        made = await create_endpoint(conn, box, principal.tenant_id, principal.live, new)
    return reply(made, 201, {"Location": f"/v1/webhooks/{made.id}"})


async def list_webhooks(call: Call) -> Response:
    """GET: all of the tenant's and mode's."""
    async with call.connection() as conn:
        found = await list_endpoints(conn, call.principal.tenant_id, call.principal.live)
    return reply(EndpointList(data=found))


async def get_webhook(call: Call) -> Response:
    """GET one: with its health."""
    principal, endpoint_id = call.principal, call.id
    async with call.connection() as conn:
        return reply(await get_endpoint(conn, principal.tenant_id, principal.live, endpoint_id))


async def update_webhook(call: Call) -> Response:
    """PATCH: changes what is sent; 200 with the endpoint."""
    patch, settings, principal = await call.body(EndpointPatch), call.state.settings, call.principal
    endpoint_id = call.id
    if isinstance(patch.url, str):
        await check_target(patch.url, private=settings.webhook_allow_private)
    box = open_box(settings)
    whose = principal.tenant_id, principal.live, endpoint_id
    async with call.connection() as conn, conn.transaction():
        if not await change_endpoint(conn, box, *whose, patch):
            raise no_endpoint(endpoint_id)
        found = await get_endpoint(conn, *whose)
    call.state.wakeups.notify("delivery")
    return reply(found)


async def delete_webhook(call: Call) -> Response:
    """DELETE: 204; nothing more is sent to it."""
    principal, endpoint_id = call.principal, call.id
    async with call.connection() as conn:
        if not await delete_endpoint(conn, principal.tenant_id, principal.live, endpoint_id):
            raise no_endpoint(endpoint_id)
    return no_content()


async def rotate_webhook_secret(call: Call) -> Response:
    """POST rotate-secret: the new secret, shown this once; the old one signs on for a day."""
    principal, endpoint_id, box = call.principal, call.id, open_box(call.state.settings)
    async with call.connection() as conn, conn.transaction():
        made = await rotate_secret(conn, box, principal.tenant_id, principal.live, endpoint_id)
    if made is None:
        raise no_endpoint(endpoint_id)
    return reply(made)
