"""Claims deliveries for one dispatcher: for many lanes in one statement, under a lease.

Lanes with something due are listed anew whenever none that is known may begin, or the list is old;
between two lists a lane that gave all it was asked for has more, and so has one whose lead goes on.
"""

import asyncio
import math
import time
from collections import Counter
from contextlib import suppress

import msgspec

import sql
from service.db import DATABASE_AWAY, Pool
from workers.delivery.lane import Lanes

LANES_AT_ONCE = 1000
BELIEF, MAX_LIST_S = 10.0, 0.025
"""A list that is of use is believed for ten times as long as it took, a quarter second at most."""
PAUSE = 0.5
"""One that is of none is made anew after half that time."""
LEASE_MARGIN_S = 30.0


class Claim(msgspec.Struct, frozen=True):
    """A row of delivery_claim_many: a delivery leased to us. `number` counts its attempts.

    An attempt that begins after `send_by` may outlast the lease.
    """

    send_by: float
    id: int
    token: int
    endpoint_id: str
    event_id: str
    type: str
    number: int
    yields: bool
    left_s: float | None
    body: bytes | None
    deferred: int


class Claimer:
    """For part `part` of `parts`: the lanes whose endpoint's hash says so.

    `timeout_s` is that of endpoints which have none of their own.
    """

    def __init__(self, pool: Pool, part: int, parts: int, timeout_s: float) -> None:
        self._pool = pool
        self._part, self._parts = part, parts
        self._timeout_ms = int(timeout_s * 1000)
        self._due: dict[str, None] = {}
        self._listed_at = -math.inf
        self._list_s = 0.0

    async def claim(self, lanes: Lanes, room: int, yielding: int) -> tuple[list[Claim], int]:
        """Up to `room` deliveries that their lanes may begin, and how many were put off.

        `yielding`: how many of them at most may be such as yield to first attempts.
        """
        now = time.monotonic()
        allotted: dict[str, int] = {}
        if now - self._listed_at < BELIEF * self._list_s:
            allotted = lanes.allot(list(self._due), now, room)
        if not allotted:
            await self._list_due(lanes)
            allotted = lanes.allot(list(self._due), time.monotonic(), room)
        if not allotted:
            return [], 0
        send_by = time.monotonic() + LEASE_MARGIN_S  # the lease begins no earlier
        rows = await self._pool.fetch(
            sql.delivery_claim_many, list(allotted), list(allotted.values()), room, LEASE_MARGIN_S,
            self._timeout_ms, yielding,
        )  # fmt: skip
        claims = [Claim(send_by, *row.values()) for row in rows if row["id"] is not None]
        deferred: int = rows[0]["deferred"]
        if not deferred:
            got = Counter(claim.endpoint_id for claim in claims)
            for endpoint_id, wanted in allotted.items():
                if got[endpoint_id] < wanted:  # it has no more
                    self._due.pop(endpoint_id, None)
        return claims, deferred

    def has_more(self) -> bool:
        """Whether more is due, as far as we know."""
        return bool(self._due)

    def note_due(self, endpoint_id: str) -> None:
        """Something for this endpoint has just become due."""
        self._due[endpoint_id] = None

    async def give_back(self, claims: list[Claim]) -> None:
        """Deliveries that were not sent to their end: due at once, and not counted."""
        if claims:
            ids, tokens = [claim.id for claim in claims], [claim.token for claim in claims]
            with suppress(*DATABASE_AWAY):  # the leases will run out
                await self._pool.execute(sql.delivery_give_back_many, ids, tokens)

    async def _list_due(self, lanes: Lanes) -> None:
        pause_s = self._listed_at + PAUSE * self._list_s - time.monotonic()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        begun = time.monotonic()
        rows = await self._pool.fetch(sql.lane_list_due, self._part, self._parts, LANES_AT_ONCE)
        self._due = {row["endpoint_id"]: None for row in rows}
        for endpoint_id in self._due:
            lanes[endpoint_id].note_open(begun)
        self._listed_at = time.monotonic()
        self._list_s = min(self._listed_at - begun, MAX_LIST_S)
