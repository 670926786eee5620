"""What became of the demo's leads, added up from four sides.

They are the API's answers, the database, the CRM streams and a webhook receiver.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import sql
from service.db import Connection
from service.demo.load import LoadResult
from service.demo.receiver import Received
from service.demo.stream import StreamCount
from service.keys import hash_key

LOOK_EVERY_S = 3.0
GIVE_UP_S = 120.0
"""Without progress on any side."""


@dataclass(frozen=True)
class Side:
    """One line: what was counted, what there should be, and what there is."""

    name: str
    expected: int
    found: int

    @property
    def balances(self) -> bool:
        """Whether there is what there should be."""
        return self.expected == self.found


@dataclass(frozen=True)
class Reckoning:
    """All lines, and what is worth knowing beside them."""

    sides: list[Side]
    repeated_webhooks: int
    lowest_score: int
    median_score: int
    highest_score: int

    @property
    def balances(self) -> bool:
        """Whether every line does."""
        return all(side.balances for side in self.sides)


async def reckon(
    conn: Connection, key: str, wanted: int, load: LoadResult, stream: StreamCount, hooks: Received
) -> Reckoning:
    """Adds up what there is now."""
    caller = await conn.fetchrow(sql.api_key_get_many_by_hash, [hash_key(key)], None)
    if caller is None:
        raise LookupError("the key does not work with this database")
    ids = list(load.lead_ids)
    leads: Any = await conn.fetchrow(sql.demo_count_leads, caller["tenant_id"], caller["live"], ids)
    events = await conn.fetch(sql.demo_list_events, caller["tenant_id"], caller["live"], ids)
    logged = {event["event_id"] for event in events}
    newest = {event["lead_id"]: event["version"] for event in events}
    streamed = [count for event_id, count in stream.events.items() if event_id in logged]
    return Reckoning(
        sides=[
            Side("leads created over HTTP", wanted, len(ids)),
            Side("leads in the database", wanted, leads["leads"]),
            Side("leads with a score", wanted, leads["scored"]),
            Side("events in the log, no version missing", sum(newest.values()), len(logged)),
            Side("events on the stream", len(logged), len(streamed)),
            Side("events on the stream twice", 0, sum(streamed) - len(streamed)),
            Side("events on the stream out of order", 0, stream.out_of_order),
            Side("leads announced by webhook", wanted, len(hooks.lead_ids & load.lead_ids)),
            Side("webhooks with a bad signature", 0, hooks.bad_signatures),
        ],
        repeated_webhooks=hooks.events.total() - len(hooks.events),
        lowest_score=leads["lowest"] or 0,
        median_score=leads["median"] or 0,
        highest_score=leads["highest"] or 0,
    )


async def wait_until_settled(look: Callable[[], Awaitable[int]], done: Callable[[], bool]) -> None:
    """Waits until `done`, or until what `look` counts has not grown for GIVE_UP_S."""
    best, idle_since = await look(), time.monotonic()
    while not done() and time.monotonic() - idle_since < GIVE_UP_S:
        await asyncio.sleep(LOOK_EVERY_S)
        now = await look()
        if now > best:
            best, idle_since = now, time.monotonic()
