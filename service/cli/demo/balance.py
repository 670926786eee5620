"""Checks that the demo's leads and events are complete in every place that must have them.

The API's responses, the database, the CRM streams and a webhook receiver are compared.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import sql
from service.access.api_keys import hash_key
from service.cli.demo.load import LoadResult
from service.cli.demo.receiver import Received
from service.cli.demo.stream import StreamCount
from service.cli.processes import StartError
from service.database.connect import Connection

POLL_S = 3.0
GIVE_UP_S = 120.0
"""The longest wait without progress in any count."""


@dataclass(frozen=True)
class Check:
    """One count, compared with its expected value."""

    name: str
    expected: int
    found: int

    @property
    def holds(self) -> bool:
        return self.expected == self.found


@dataclass(frozen=True)
class Balance:
    """All checks, and figures for information."""

    checks: list[Check]
    repeated_webhooks: int
    lowest_score: int
    median_score: int
    highest_score: int

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)


async def measure_balance(
    conn: Connection, key: str, wanted: int, load: LoadResult, stream: StreamCount, hooks: Received
) -> Balance:
    """Counts leads and events as of now; `wanted`: the number of leads to send."""
    caller = await find_caller(conn, key)
    ids = list(load.lead_ids)
    leads: Any = await conn.fetchrow(sql.demo_count_leads, caller["tenant_id"], caller["live"], ids)
    events = await conn.fetch(sql.demo_list_events, caller["tenant_id"], caller["live"], ids)
    logged = {event["event_id"] for event in events}
    newest = {event["lead_id"]: event["version"] for event in events}
    streamed = [count for event_id, count in stream.events.items() if event_id in logged]
    return Balance(
        checks=[
            Check("leads created over HTTP", wanted, len(ids)),
            Check("leads in the database", wanted, leads["leads"]),
            Check("leads with a score", wanted, leads["scored"]),
            Check("events in the log, no version missing", sum(newest.values()), len(logged)),
            Check("events on the stream", len(logged), len(streamed)),
            Check("events on the stream twice", 0, sum(streamed) - len(streamed)),
            Check("events on the stream out of order", 0, stream.out_of_order),
            Check("leads announced by webhook", wanted, len(hooks.lead_ids & load.lead_ids)),
            Check("webhooks with a bad signature", 0, hooks.bad_signatures),
        ],
        repeated_webhooks=hooks.events.total() - len(hooks.events),
        lowest_score=leads["lowest"] or 0,
        median_score=leads["median"] or 0,
        highest_score=leads["highest"] or 0,
    )


async def find_caller(conn: Connection, key: str) -> Any:
    """The row of the key. Raises StartError if the API has another database."""
    caller = await conn.fetchrow(sql.api_key_get_many_by_hash, [hash_key(key)], None)
    if caller is None:
        raise StartError(
            "The API accepts the key, but the database of DATABASE_URL does not contain it: "
            "give the demo the DATABASE_URL and REDIS_URL of the API."
        )
    return caller


async def wait_until_settled(
    count: Callable[[], Awaitable[int]], is_done: Callable[[], bool]
) -> None:
    """Waits until `is_done`, or until `count` has not grown for GIVE_UP_S."""
    best, idle_since = await count(), time.monotonic()
    while not is_done() and time.monotonic() - idle_since < GIVE_UP_S:
        await asyncio.sleep(POLL_S)
        now = await count()
        if now > best:
            best, idle_since = now, time.monotonic()
