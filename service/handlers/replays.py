"""/v1/webhooks/{id}/replay and /replays: what an endpoint was sent is sent again."""

from starlette.responses import Response

from service.http.call import Call
from service.http.replies import no_content, reply
from service.webhooks.endpoints import get_endpoint
from service.webhooks.replays import (
    ReplayList,
    ReplayRequest,
    cancel_replay,
    get_replay,
    list_replays,
    start_replay,
)


async def start_webhook_replay(call: Call) -> Response:
    """POST: 202 with a task to watch."""
    wanted, whose = await call.body(ReplayRequest), call.whose
    async with call.connection() as conn:
        await get_endpoint(conn, *whose)
        started = await start_replay(conn, *whose, wanted)
    return reply(started, 202, {"Location": f"/v1/webhooks/{whose[2]}/replays/{started.id}"})


async def list_webhook_replays(call: Call) -> Response:
    """GET: the newest hundred."""
    whose = call.whose
    async with call.connection() as conn:
        await get_endpoint(conn, *whose)
        return reply(ReplayList(data=await list_replays(conn, *whose)))


async def get_webhook_replay(call: Call) -> Response:
    """GET one: how far it has come."""
    whose, replay_id = call.whose, call.path_id("replayId")
    async with call.connection() as conn:
        return reply(await get_replay(conn, *whose, replay_id))


async def cancel_webhook_replay(call: Call) -> Response:
    """DELETE: 204; what it has made already is still sent."""
    whose, replay_id = call.whose, call.path_id("replayId")
    async with call.connection() as conn:
        await cancel_replay(conn, *whose, replay_id)
    return no_content()
