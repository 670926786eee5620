"""/v1/api-keys: the tenant's own keys."""

from service.access.api_keys import (
    KeyRequest,
    KeyRotation,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
)
from service.errors import Forbidden, NotFound
from service.http.request import Request
from service.http.responses import Response, no_content, reply, reply_list
from service.validation.field_types import parse_moment


async def create_api_key(request: Request) -> Response:
    """POST: 201 with the key, which only this response shows."""
    wanted = await request.body(KeyRequest)
    live = request.principal.live if wanted.mode is None else wanted.mode == "live"
    if live and not request.principal.live:
        raise Forbidden("A test key cannot make live keys; use a live key of scope admin.")
    expires_at = None if wanted.expires_at is None else parse_moment(wanted.expires_at)
    async with request.connection() as conn:
        key = await create_key(
            conn, request.principal.tenant_id, live, wanted.name, wanted.scope, expires_at
        )
    return reply(key, 201, {"Location": f"/v1/api-keys/{key.id}"})


async def list_api_keys(request: Request) -> Response:
    """GET: all keys that work, without the keys themselves."""
    tenant_id, live = request.principal.tenant_id, request.principal.live
    async with request.state.whole_lists.hold(tenant_id), request.connection() as conn:
        return reply_list(await list_keys(conn, tenant_id, live))


async def revoke_api_key(request: Request) -> Response:
    """DELETE: 204; within a second no process accepts the key."""
    caller, key_id = request.principal, request.id
    async with request.connection() as conn:
        if not await revoke_key(conn, caller.tenant_id, caller.live, key_id):
            raise NotFound(f"There is no working key with the id {key_id}.")
    return no_content()


async def rotate_api_key(request: Request) -> Response:
    """POST: 201 with a new key; the old key stays valid for the grace period."""
    caller, key_id, wanted = request.principal, request.id, await request.body(KeyRotation)
    async with request.connection() as conn:
        key = await rotate_key(conn, caller.tenant_id, caller.live, key_id, wanted.grace_seconds)
    if key is None:
        raise NotFound(f"There is no working key with the id {key_id}.")
    return reply(key, 201, {"Location": f"/v1/api-keys/{key.id}"})
