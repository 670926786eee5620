"""Replays: send the past deliveries of an endpoint again, in the background."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import ClassVar, Literal

import sql
from service.database.connect import Connection
from service.errors import Conflict, Fault, NotFound
from service.ids import make_id
from service.validation.field_types import (
    ApiStruct,
    Check,
    Input,
    Moment,
    check_moment,
    parse_moment,
)

MAX_LISTED = 100


def check_range(request: "ReplayRequest") -> Iterator[Fault]:
    """Check that `since` is in the past and before `until`."""
    try:
        since = parse_moment(request.since)
        until = None if request.until is None else parse_moment(request.until)
    except ValueError:
        return  # reported by check_moment
    if until is not None and since >= until:
        yield Fault("since", "impossible_range", "since must be before until.")
    elif since > datetime.now(UTC):
        yield Fault("since", "impossible_range", "since must be a time that has passed.")


class ReplayRequest(Input):
    """The body of POST /v1/webhooks/{id}/replay, for deliveries created in [since, until)."""

    checks: ClassVar[Mapping[str, Check]] = {
        "since": check_moment("since"),
        "until": check_moment("until"),
        "": check_range,
    }

    since: Moment
    until: Moment | None = None
    only_undelivered: bool = False


class Replay(ApiStruct):
    """A replay, which runs in the background.

    `seen` counts the deliveries read so far, `sent` the deliveries created for them, and `expired`
    the deliveries whose events are no longer kept. `reachedAt` advances from `since` to `until`:
    all deliveries created before it have been read.
    """

    id: str
    state: Literal["running", "done", "cancelled"]
    since: Moment
    until: Moment
    only_undelivered: bool
    seen: int
    sent: int
    expired: int
    reached_at: Moment
    created_at: Moment
    finished_at: Moment | None


class ReplayList(ApiStruct):
    """The newest hundred replays of an endpoint, newest first."""

    data: list[Replay]


async def start_replay(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, request: ReplayRequest
) -> Replay:
    """Start a replay. Raises Conflict while another replay of this endpoint runs."""
    replay_id = await conn.fetchval(
        sql.replay_insert,
        tenant_id,
        live,
        make_id("rpl"),
        endpoint_id,
        parse_moment(request.since),
        None if request.until is None else parse_moment(request.until),
        request.only_undelivered,
    )
    if replay_id is None:
        running = await conn.fetchval(sql.replay_get_running, tenant_id, live, endpoint_id)
        named = f"The replay {running}" if running else "A replay"  # or it has just ended
        raise Conflict(f"{named} of this webhook is running; wait until it is done, or cancel it.")
    return await get_replay(conn, tenant_id, live, endpoint_id, replay_id)


async def list_replays(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, replay_id: str | None = None
) -> list[Replay]:
    """List the newest replays of an endpoint, or only the replay with this id."""
    rows = await conn.fetch(sql.replay_list, tenant_id, live, endpoint_id, replay_id, MAX_LISTED)
    return [Replay(**dict(row)) for row in rows]


async def get_replay(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, replay_id: str
) -> Replay:
    """Read a replay. Raises NotFound if this endpoint has no such replay."""
    replays = await list_replays(conn, tenant_id, live, endpoint_id, replay_id)
    if not replays:
        raise NotFound("This webhook has no such replay.")
    return replays[0]


async def cancel_replay(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, replay_id: str
) -> None:
    """Cancel a replay; the deliveries that it has created are sent. Raises NotFound or Conflict."""
    if await conn.fetchval(sql.replay_cancel, tenant_id, live, endpoint_id, replay_id) is None:
        replay = await get_replay(conn, tenant_id, live, endpoint_id, replay_id)
        raise Conflict(f"This replay has ended already: it is {replay.state}.")
