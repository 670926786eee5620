"""Replays: what an endpoint was sent is sent again, in the background, as far back as one likes."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import ClassVar, Literal

from ulid import ULID

import sql
from service.db import Connection
from service.errors import Conflict, Fault, NotFound
from service.models import Input, Moment, Wire, check_moment, parse_moment
from service.validation import Check

MOST_LISTED = 100


def check_range(wanted: "ReplayRequest") -> Iterator[Fault]:
    """`since` has passed, and is before `until`."""
    try:
        since = parse_moment(wanted.since)
        until = None if wanted.until is None else parse_moment(wanted.until)
    except ValueError:
        return  # said already
    if until is not None and since >= until:
        yield Fault("since", "impossible_range", "since must be before until.")
    elif since > datetime.now(UTC):
        yield Fault("since", "impossible_range", "since must be a time that has passed.")


class ReplayRequest(Input):
    """The body of POST /v1/webhooks/{id}/replay: deliveries made in [since, until)."""

    checks: ClassVar[Mapping[str, Check]] = {
        "since": check_moment("since"), "until": check_moment("until"), "": check_range,
    }  # fmt: skip

    since: Moment
    until: Moment | None = None
    only_undelivered: bool = False


class Replay(Wire):
    """A task to watch. `seen` counts the deliveries looked at, `sent` those made anew.

    `expired` counts those that could not be sent, because their events are no longer kept.
    `reachedAt` goes from `since` to `until`: what was made before it has been looked at.
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


class ReplayList(Wire):
    """The newest hundred, newest first."""

    data: list[Replay]


async def start_replay(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, wanted: ReplayRequest
) -> Replay:
    """Raises Conflict while another replay of this endpoint runs."""
    replay_id = await conn.fetchval(
        sql.replay_insert, tenant_id, live, f"rpl_{ULID()}", endpoint_id,
        parse_moment(wanted.since), None if wanted.until is None else parse_moment(wanted.until),
        wanted.only_undelivered,
    )  # fmt: skip
    if replay_id is None:
        running = await conn.fetchval(sql.replay_get_running, tenant_id, live, endpoint_id)
        named = f"The replay {running}" if running else "A replay"  # none: it has just ended
        raise Conflict(f"{named} of this webhook is running; wait until it is done, or cancel it.")
    return await get_replay(conn, tenant_id, live, endpoint_id, replay_id)


async def list_replays(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, replay_id: str | None = None
) -> list[Replay]:
    """The newest replays of an endpoint, or the one of this id."""
    rows = await conn.fetch(sql.replay_list, tenant_id, live, endpoint_id, replay_id, MOST_LISTED)
    return [Replay(**dict(row)) for row in rows]


async def get_replay(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, replay_id: str
) -> Replay:
    """Raises NotFound if this endpoint has no such replay."""
    found = await list_replays(conn, tenant_id, live, endpoint_id, replay_id)
    if not found:
        raise NotFound("This webhook has no such replay.")
    return found[0]


async def cancel_replay(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, replay_id: str
) -> None:
    """Makes no more deliveries for it; those it has made are sent. Raises NotFound or Conflict."""
    if await conn.fetchval(sql.replay_cancel, tenant_id, live, endpoint_id, replay_id) is None:
        found = await get_replay(conn, tenant_id, live, endpoint_id, replay_id)
        raise Conflict(f"This replay has ended already: it is {found.state}.")
