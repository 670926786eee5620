"""/v1/webhooks and /v1/webhooks/{id}."""

from service.encryption import open_encryptor
from service.http.request import Request
from service.http.responses import Response, no_content, reply, reply_list
from service.webhooks.endpoint_update import EndpointPatch, rotate_secret, update_endpoint
from service.webhooks.endpoints import (
    NewEndpoint,
    check_target,
    create_endpoint,
    delete_endpoint,
    endpoint_not_found,
    get_endpoint,
    list_endpoints,
)


async def create_webhook(request: Request) -> Response:
    """POST: 201 with the endpoint; only this response shows a generated secret."""
    new, principal = await request.body(NewEndpoint), request.principal
    settings = request.state.settings
    await check_target(new.url, private=settings.webhook_allow_private)
    encryptor = open_encryptor(settings)
    async with request.connection() as conn, conn.transaction():
        made = await create_endpoint(conn, encryptor, principal.tenant_id, principal.live, new)
    return reply(made, 201, {"Location": f"/v1/webhooks/{made.id}"})


async def list_webhooks(request: Request) -> Response:
    """GET: all webhooks of the tenant and mode."""
    tenant_id, live = request.principal.tenant_id, request.principal.live
    async with request.state.whole_lists.hold(tenant_id), request.connection() as conn:
        return reply_list(await list_endpoints(conn, tenant_id, live))


async def get_webhook(request: Request) -> Response:
    """GET one: an endpoint with its health."""
    async with request.connection() as conn:
        return reply(await get_endpoint(conn, *request.owner_and_id))


async def update_webhook(request: Request) -> Response:
    """PATCH: change the fields that are sent; 200 with the endpoint."""
    patch, settings = await request.body(EndpointPatch), request.state.settings
    if isinstance(patch.url, str):
        await check_target(patch.url, private=settings.webhook_allow_private)
    encryptor = open_encryptor(settings)
    owner_and_id = request.owner_and_id
    async with request.connection() as conn, conn.transaction():
        if not await update_endpoint(conn, encryptor, *owner_and_id, patch):
            raise endpoint_not_found(request.id)
        found = await get_endpoint(conn, *owner_and_id)
    request.state.wakeups.notify("delivery")
    return reply(found)


async def delete_webhook(request: Request) -> Response:
    """DELETE: 204; no more deliveries are sent to the endpoint."""
    async with request.connection() as conn:
        if not await delete_endpoint(conn, *request.owner_and_id):
            raise endpoint_not_found(request.id)
    return no_content()


async def rotate_webhook_secret(request: Request) -> Response:
    """POST rotate-secret: the new secret, shown only here; the old one signs for another day."""
    encryptor = open_encryptor(request.state.settings)
    async with request.connection() as conn, conn.transaction():
        made = await rotate_secret(conn, encryptor, *request.owner_and_id)
    if made is None:
        raise endpoint_not_found(request.id)
    return reply(made)
