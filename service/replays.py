"""Replays: what an endpoint was sent is sent again, in the background, as far back as one likes."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from ulid import ULID

import sql
from service.db import Connection
from service.errors import Conflict, Fault
from service.models import Input, Moment, Wire, check_moment, parse_moment
from service.validation import Check


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
    """

    id: str
    state: Literal["running", "done"]
    since: Moment
    until: Moment
    only_undelivered: bool
    seen: int
    sent: int
    expired: int
    created_at: Moment
    finished_at: Moment | None


async def start_replay(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, wanted: ReplayRequest
) -> Replay:
    """Raises Conflict while another replay of this endpoint runs."""
    row = await conn.fetchrow(
        sql.replay_insert, tenant_id, live, f"rpl_{ULID()}", endpoint_id,
        parse_moment(wanted.since), None if wanted.until is None else parse_moment(wanted.until),
        wanted.only_undelivered,
    )  # fmt: skip
    if row is None:
        raise Conflict("A replay of this webhook is running; wait until it is done.")
    return Replay(**dict(row))


async def get_replay(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, replay_id: str
) -> Replay | None:
    """None if this endpoint has no such replay."""
    row: Any = await conn.fetchrow(sql.replay_get, tenant_id, live, endpoint_id, replay_id)
    return None if row is None else Replay(**dict(row))
