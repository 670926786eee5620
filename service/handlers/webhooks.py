"""/v1/webhooks and /v1/webhooks/{id}."""

from starlette.responses import Response

from service.errors import NotFound, Unavailable
from service.http import Call, no_content, reply
from service.secretbox import SecretBox, make_box
from service.settings import Settings, SettingsError
from service.webhooks import (
    EndpointList,
    NewEndpoint,
    check_target,
    create_endpoint,
    delete_endpoint,
    list_endpoints,
)


async def create_webhook(call: Call) -> Response:
    """POST: 201; a secret that we made is shown this once."""
    new, settings, principal = await call.body(NewEndpoint), call.state.settings, call.principal
    await check_target(new.url, private=settings.webhook_allow_private)
    box = open_box(settings)
    async with call.state.pool.acquire() as conn, conn.transaction():
        made = await create_endpoint(conn, box, principal.tenant_id, principal.live, new)
    return reply(made, 201, {"Location": f"/v1/webhooks/{made.id}"})


async def list_webhooks(call: Call) -> Response:
    """GET: all of the tenant's and mode's."""
    async with call.state.pool.acquire() as conn:
        found = await list_endpoints(conn, call.principal.tenant_id, call.principal.live)
    return reply(EndpointList(data=found))


async def get_webhook(call: Call) -> Response:
    """GET one: with its health."""
    principal, endpoint_id = call.principal, call.id
    async with call.state.pool.acquire() as conn:
        found = await list_endpoints(conn, principal.tenant_id, principal.live, endpoint_id)
    if not found:
        raise no_webhook(endpoint_id)
    return reply(found[0])


async def delete_webhook(call: Call) -> Response:
    """DELETE: 204; nothing more is sent to it."""
    principal, endpoint_id = call.principal, call.id
    async with call.state.pool.acquire() as conn:
        if not await delete_endpoint(conn, principal.tenant_id, principal.live, endpoint_id):
            raise no_webhook(endpoint_id)
    return no_content()


def open_box(settings: Settings) -> SecretBox:
    """The box for secrets; 503 that says what is missing where SECRET_KEY is."""
    try:
        return make_box(settings)
    except SettingsError as error:
        raise Unavailable(str(error), retry_after_s=60) from None


def no_webhook(endpoint_id: str) -> NotFound:
    return NotFound(f"There is no webhook with the id {endpoint_id}.")
