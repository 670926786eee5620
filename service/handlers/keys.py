"""/v1/api-keys: the tenant's own keys."""

from starlette.responses import Response

from service.errors import Forbidden, NotFound
from service.http.call import Call
from service.http.replies import no_content, reply
from service.keys import (
    KeyList,
    KeyRequest,
    KeyRotation,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
)
from service.models import parse_moment


async def create_api_key(call: Call) -> Response:
    """POST: 201 with the key, shown this once."""
    wanted = await call.body(KeyRequest)
    live = call.principal.live if wanted.mode is None else wanted.mode == "live"
    if live and not call.principal.live:
        raise Forbidden("A test key cannot make live keys; use a live key of scope admin.")
    expires_at = None if wanted.expires_at is None else parse_moment(wanted.expires_at)
    async with call.connection() as conn:
        key = await create_key(
            conn, call.principal.tenant_id, live, wanted.name, wanted.scope, expires_at
        )
    return reply(key, 201, {"Location": f"/v1/api-keys/{key.id}"})


async def list_api_keys(call: Call) -> Response:
    """GET: all keys that work, without the keys themselves."""
    caller = call.principal
    async with call.connection() as conn:
        return reply(KeyList(data=await list_keys(conn, caller.tenant_id, caller.live)))


async def revoke_api_key(call: Call) -> Response:
    """DELETE: 204; within a second no process takes the key any more."""
    caller, key_id = call.principal, call.id
    async with call.connection() as conn:
        if not await revoke_key(conn, caller.tenant_id, caller.live, key_id):
            raise NotFound(f"There is no working key with the id {key_id}.")
    return no_content()


async def rotate_api_key(call: Call) -> Response:
    """POST: 201 with a new key; the old one works on for the grace period."""
    caller, key_id, wanted = call.principal, call.id, await call.body(KeyRotation)
    async with call.connection() as conn:
        key = await rotate_key(conn, caller.tenant_id, caller.live, key_id, wanted.grace_seconds)
    if key is None:
        raise NotFound(f"There is no working key with the id {key_id}.")
    return reply(key, 201, {"Location": f"/v1/api-keys/{key.id}"})
