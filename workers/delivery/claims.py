"""Claims due deliveries for one dispatcher: for many lanes in one statement, under a lease.

The list of lanes with due deliveries is renewed whenever no listed lane may start a request, or
when the list is old. In between, a lane leaves the list when a claim finds fewer deliveries than
requested, and returns when a settlement makes its next delivery due.
"""

import asyncio
import math
import time
from collections import Counter
from contextlib import suppress

import msgspec

import sql
from service.database.clock import Clock
from service.database.connect import DATABASE_AWAY, Pool
from workers.delivery.lane import Lanes

MAX_LANES = 1000
LIST_VALIDITY, MAX_LIST_S = 10.0, 0.025
"""A list stays valid for ten times the duration of its query, a quarter second at most."""
LIST_PAUSE = 0.5
"""A list without a lane that may start a request is renewed after half that duration."""
LEASE_MARGIN_S = 30.0


class Claim(msgspec.Struct, frozen=True):
    """A delivery leased to this process; from `id` on in the order of delivery_claim_many."""

    send_by: float
    """An attempt that starts later (time.monotonic) may outlast the lease."""
    id: int
    token: int
    endpoint_id: str
    event_id: str
    type: str
    number: int
    """The number of this attempt, from 1."""
    yields: bool
    left_s: float | None
    body: bytes | None
    deferred: int
    began_at: float


class Claimer:
    """Claims for the lanes whose endpoint's hash belongs to part `part` of `parts`.

    `timeout_s` is the timeout of endpoints without their own timeout. Each claim also compares
    `clock` with the database's, so that a signature has the right time after either was set.
    """

    def __init__(self, pool: Pool, clock: Clock, part: int, parts: int, timeout_s: float) -> None:
        self._pool = pool
        self._clock = clock
        self._part, self._parts = part, parts
        self._timeout_ms = int(timeout_s * 1000)
        self._due: dict[str, None] = {}
        self._listed_at = -math.inf
        self._list_s = 0.0

    async def claim(
        self, lanes: Lanes, free_slots: int, max_yielding: int
    ) -> tuple[list[Claim], int]:
        """Returns up to `free_slots` deliveries that may start, and the number that were deferred.

        At most `max_yielding` of them are retries or replays, which yield to first attempts.
        """
        allotted = await self._allot(lanes, free_slots)
        if not allotted:
            return [], 0
        send_by = time.monotonic() + LEASE_MARGIN_S  # the lease begins no earlier
        sent_at = self._clock.read()
        rows = await self._pool.fetch(
            sql.delivery_claim_many,
            list(allotted),
            list(allotted.values()),
            free_slots,
            LEASE_MARGIN_S,
            self._timeout_ms,
            max_yielding,
        )
        self._clock.check(sent_at, rows[0]["began_at"])
        claims = [Claim(send_by, *row.values()) for row in rows if row["id"] is not None]
        deferred: int = rows[0]["deferred"]
        if not deferred:
            claimed = Counter(claim.endpoint_id for claim in claims)
            for endpoint_id, wanted in allotted.items():
                if claimed[endpoint_id] < wanted:  # the lane has no more
                    self._due.pop(endpoint_id, None)
        return claims, deferred

    def has_more(self) -> bool:
        """Whether a listed lane may have more due deliveries."""
        return bool(self._due)

    def mark_due(self, endpoint_id: str) -> None:
        """Adds a lane to the list: one of its deliveries has just become due."""
        self._due[endpoint_id] = None

    async def give_back(self, claims: list[Claim]) -> None:
        """Makes claimed deliveries due again; their unfinished attempts do not count."""
        if claims:
            ids, tokens = [claim.id for claim in claims], [claim.token for claim in claims]
            with suppress(*DATABASE_AWAY):  # the leases will expire
                await self._pool.execute(sql.delivery_give_back_many, ids, tokens)

    async def _allot(self, lanes: Lanes, free_slots: int) -> dict[str, int]:
        now = time.monotonic()
        allotted: dict[str, int] = {}
        if now - self._listed_at < LIST_VALIDITY * self._list_s:
            allotted = lanes.allot(list(self._due), now, free_slots)
        if not allotted:
            await self._list_due(lanes)
            allotted = lanes.allot(list(self._due), time.monotonic(), free_slots)
        return allotted

    async def _list_due(self, lanes: Lanes) -> None:
        pause_s = self._listed_at + LIST_PAUSE * self._list_s - time.monotonic()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        queried_at = time.monotonic()
        rows = await self._pool.fetch(sql.lane_list_due, self._part, self._parts, MAX_LANES)
        self._due = {row["endpoint_id"]: None for row in rows}
        for endpoint_id in self._due:
            lanes[endpoint_id].reopen_if_saved_before(queried_at)
        self._listed_at = time.monotonic()
        self._list_s = min(self._listed_at - queried_at, MAX_LIST_S)
