"""Where streams, groups and the publisher stand, and what that says: pure decisions.

An entry's id is `<tick>-<id in the outbox>`, so that it is a cursor of the log: whoever knows the
last entry that it has dealt with can go on from PostgreSQL as well as from Redis.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from service.log import Cursor

Damage = Literal["lost", "foreign", "hole"]
"""lost: wiped, or an old copy; foreign: somebody else has written to it; hole: entries that a group
has yet to read were removed."""


class EntryId(NamedTuple):
    """The id of an entry of a stream."""

    tick: int
    event_id: int

    def __str__(self) -> str:
        return f"{self.tick}-{self.event_id}"


MAX_EVENT_ID = 2**63 - 1
ZERO = EntryId(0, 0)
"""Before every entry."""
UNKNOWN = ZERO
"""Where a group stands that was made in a stream that has lost its entries."""


class StreamName(NamedTuple):
    """A stream: that of a shard in a generation of the log."""

    shard: int
    generation: int


class Checkpoint(NamedTuple):
    """How far a group is done: up to and with `id` in the stream of `generation`."""

    generation: int
    id: EntryId


class Group(msgspec.Struct, frozen=True):
    """A consumer group: the newest entry it was given, the oldest that it has not acknowledged."""

    name: str
    delivered: EntryId
    pending: EntryId
    """ZERO: all are acknowledged."""


class Look(msgspec.Struct, frozen=True):
    """What there is of a stream in one moment. `prev` is the first entry's; ZERO: unknown."""

    exists: bool = False
    newest: EntryId = ZERO
    length: int = 0
    first: EntryId = ZERO
    prev: EntryId = ZERO
    groups: Sequence[Group] = ()


def parse_entry_id(text: bytes) -> EntryId:
    """From Redis's own form; ZERO if it is none."""
    tick, _, event_id = text.partition(b"-")
    return EntryId(int(tick), int(event_id)) if tick.isdigit() and event_id.isdigit() else ZERO


def to_cursor(entry: EntryId) -> Cursor:
    """The cursor of a reader that has read up to and with this entry."""
    return Cursor(entry.tick - 1, entry.event_id)


def to_entry_id(cursor: Cursor) -> EntryId:
    """What every entry after the cursor is above."""
    return EntryId(cursor.tick + 1, cursor.event_id)


def step_before(entry: EntryId) -> EntryId:
    """Above every earlier entry and below this one."""
    tick, event_id = entry
    return EntryId(tick, event_id - 1) if event_id else EntryId(tick - 1, MAX_EVENT_ID)


def find_position(group: Group, known: EntryId | None, start: EntryId) -> EntryId:
    """Up to where a group is done with a stream.

    A group made at 0 that has read nothing stands where it stood before, if it is `known`, else at
    `start`: just before what there is to read.
    """
    if group.pending != ZERO:
        return step_before(group.pending)
    if group.delivered == ZERO:
        return start if known is None else known
    return group.delivered


def find_start(look: Look, published: EntryId) -> EntryId:
    """Just before the first entry there is, or there will be."""
    return step_before(look.first) if look.length else max(look.newest, published)


def find_damage(
    look: Look,
    expected: EntryId,
    newest_tick: int,
    positions: Mapping[str, EntryId],
    known: Mapping[str, EntryId],
    *,
    must_exist: bool,
) -> Damage | None:
    """What is wrong with a stream that should end at `expected` or later.

    `positions`: where its groups stand; `known`: where they and groups that are gone stood when
    PostgreSQL was told last. We drop no entry above that, so one that is missing there was dropped
    by somebody, even if its group has been given later ones since and stands above it now.
    """
    if look.newest < expected or (must_exist and not look.exists):
        return "lost"
    if look.newest.tick > newest_tick:
        return "foreign"
    begins = look.prev if look.length else look.newest
    if any(min(position, known.get(name, position)) < begins
           for name, position in positions.items()):  # fmt: skip
        return "hole"
    return None


def find_checkpoints(
    looks: Mapping[int, Look], positions: Mapping[int, Mapping[str, EntryId]]
) -> dict[str, Checkpoint]:
    """Where each group stands, by name: in the oldest generation that it is not done with."""
    found: dict[str, Checkpoint] = {}
    for generation in sorted(looks, reverse=True):
        for name, position in positions[generation].items():
            if name not in found or position < looks[generation].newest:
                found[name] = Checkpoint(generation, position)
    return found


def find_laggards(
    positions: Mapping[str, EntryId], moved_at: Mapping[str, float], now: float, patience_s: float
) -> list[str]:
    """The groups that keep a full stream from going on.

    They are the last ones, if others are ahead of them and they have stood still for `patience_s`.
    """
    last = min(positions.values(), default=ZERO)
    if all(position == last for position in positions.values()):
        return []
    return [
        name
        for name, position in positions.items()
        if position == last and now - moved_at[name] >= patience_s
    ]
