"""Positions of streams, groups and the publisher, and the decisions that follow: pure functions.

An entry's id is `<tick>-<id in the outbox>`, and so a cursor of the log: a connector that stores
the id of its last entry can continue from PostgreSQL as well as from Redis.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from service.events.event_log import Cursor

Damage = Literal["lost", "foreign", "hole"]
"""lost: the stream was wiped, or is an old copy; foreign: another program has written to it; hole:
entries that a group has yet to read were removed."""


class EntryId(NamedTuple):
    """The id of a stream entry."""

    tick: int
    event_id: int

    def __str__(self) -> str:
        return f"{self.tick}-{self.event_id}"


MAX_EVENT_ID = 2**63 - 1
ZERO = EntryId(0, 0)
"""The position before every entry."""
UNKNOWN = ZERO
"""The position of a group that was created in a stream that has lost its entries."""


class StreamName(NamedTuple):
    """The stream of a shard in a generation of the log."""

    shard: int
    generation: int


class Checkpoint(NamedTuple):
    """A group has acknowledged every entry of `generation` up to and including `id`."""

    generation: int
    id: EntryId


class Group(msgspec.Struct, frozen=True):
    """A consumer group: its newest delivered entry and its oldest unacknowledged one."""

    name: str
    delivered: EntryId
    pending: EntryId
    """ZERO: all delivered entries are acknowledged."""


class StreamInspection(msgspec.Struct, frozen=True):
    """A snapshot of a stream. `previous`: the entry before the first one; ZERO: unknown."""

    exists: bool = False
    newest: EntryId = ZERO
    length: int = 0
    bytes: int = 0
    first: EntryId = ZERO
    previous: EntryId = ZERO
    groups: Sequence[Group] = ()


def parse_entry_id(text: bytes) -> EntryId:
    """Parses an entry id as Redis writes it; ZERO if the text is no such id."""
    tick, _, event_id = text.partition(b"-")
    return EntryId(int(tick), int(event_id)) if tick.isdigit() and event_id.isdigit() else ZERO


def to_cursor(entry: EntryId) -> Cursor:
    """The cursor of a reader that has read up to and including this entry."""
    return Cursor(entry.tick - 1, entry.event_id)


def to_entry_id(cursor: Cursor) -> EntryId:
    """The id that is below every entry after the cursor, and above every entry before it."""
    return EntryId(cursor.tick + 1, cursor.event_id)


def step_before(entry: EntryId) -> EntryId:
    """The id just below this one: above every earlier entry."""
    tick, event_id = entry
    return EntryId(tick, event_id - 1) if event_id else EntryId(tick - 1, MAX_EVENT_ID)


def find_position(group: Group, stored: EntryId | None, start: EntryId) -> EntryId:
    """The position up to which a group has acknowledged every entry.

    A group that was created at 0 and has read nothing is at its `stored` checkpoint, or without one
    at `start`, just before the first entry that it can read.
    """
    if group.pending != ZERO:
        return step_before(group.pending)
    if group.delivered == ZERO:
        return start if stored is None else stored
    return group.delivered


def find_start(inspection: StreamInspection, published: EntryId) -> EntryId:
    """The position just before the first entry, or before the next one if the stream is empty."""
    return step_before(inspection.first) if inspection.length else max(inspection.newest, published)


def find_damage(
    inspection: StreamInspection,
    *,
    expected: EntryId,
    newest_tick: int,
    positions: Mapping[str, EntryId],
    stored: Mapping[str, EntryId],
    must_exist: bool,
) -> Damage | None:
    """The damage of a stream that should end at `expected` or later; None: it is intact.

    `positions`: the positions of its groups now; `stored`: the checkpoints in PostgreSQL, also of
    groups that are gone. Leadlog trims no entry above a stored checkpoint. So an entry missing
    there was removed by another program, even if its group has since read later entries.
    """
    if inspection.newest < expected or (must_exist and not inspection.exists):
        return "lost"
    if inspection.newest.tick > newest_tick:
        return "foreign"
    removed = inspection.previous if inspection.length else inspection.newest
    unread = (min(position, stored.get(name, position)) for name, position in positions.items())
    return "hole" if any(position < removed for position in unread) else None


def find_checkpoints(
    inspections: Mapping[int, StreamInspection], positions: Mapping[int, Mapping[str, EntryId]]
) -> dict[str, Checkpoint]:
    """Each group's checkpoint, in the oldest generation that the group has not read to its end."""
    found: dict[str, Checkpoint] = {}
    for generation in sorted(inspections, reverse=True):
        for name, position in positions[generation].items():
            if name not in found or position < inspections[generation].newest:
                found[name] = Checkpoint(generation, position)
    return found


def find_lagging_groups(
    positions: Mapping[str, EntryId], moved_at: Mapping[str, float], now: float, patience_s: float
) -> list[str]:
    """The groups to detach from a full stream.

    These are the groups at the earliest position that have not moved for `patience_s`, provided
    that other groups are ahead of them.
    """
    last = min(positions.values(), default=ZERO)
    if all(position == last for position in positions.values()):
        return []
    return [
        name
        for name, position in positions.items()
        if position == last and now - moved_at[name] >= patience_s
    ]
