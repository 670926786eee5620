"""/v1/webhooks/{id}/replay and /replays: send past deliveries of an endpoint again."""

from service.http.request import Request
from service.http.responses import Response, no_content, reply
from service.webhooks.endpoints import get_endpoint
from service.webhooks.replays import (
    ReplayList,
    ReplayRequest,
    cancel_replay,
    get_replay,
    list_replays,
    start_replay,
)


async def start_webhook_replay(request: Request) -> Response:
    """POST: 202 with the replay, which runs in the background."""
    wanted, owner_and_id = await request.body(ReplayRequest), request.owner_and_id
    async with request.connection() as conn:
        await get_endpoint(conn, *owner_and_id)
        started = await start_replay(conn, *owner_and_id, wanted)
    return reply(started, 202, {"Location": f"/v1/webhooks/{owner_and_id[2]}/replays/{started.id}"})


async def list_webhook_replays(request: Request) -> Response:
    """GET: the newest hundred replays."""
    owner_and_id = request.owner_and_id
    async with request.connection() as conn:
        await get_endpoint(conn, *owner_and_id)
        return reply(ReplayList(data=await list_replays(conn, *owner_and_id)))


async def get_webhook_replay(request: Request) -> Response:
    """GET one: the progress of a replay."""
    owner_and_id, replay_id = request.owner_and_id, request.path_id("replayId")
    async with request.connection() as conn:
        return reply(await get_replay(conn, *owner_and_id, replay_id))


async def cancel_webhook_replay(request: Request) -> Response:
    """DELETE: 204; the deliveries that the replay has created are still sent."""
    owner_and_id, replay_id = request.owner_and_id, request.path_id("replayId")
    async with request.connection() as conn:
        await cancel_replay(conn, *owner_and_id, replay_id)
    return no_content()
