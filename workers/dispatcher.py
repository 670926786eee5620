"""Sends what is due: claims deliveries for many lanes in one query, sends, settles in batches.

At least once: a delivery is leased under a token for longer than an attempt can take, so whoever
dies or sleeps loses it to the next claim, and a late settlement fails on its token. In order per
lead and endpoint: delivery_claim_many passes over what stands behind an unfinished earlier one.
"""

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec

import sql
from service.db import DATABASE_AWAY
from service.logs import get_logger
from service.metrics import DELIVERY_ATTEMPTS, DELIVERY_SECONDS, LOST_LEASES, STALE_SETTLEMENTS
from service.secretbox import make_box
from service.wakeups import Topic
from workers.egress import open_session
from workers.lane import FIRST_WINDOW, Lane
from workers.retry import PROFILES, Answer, Verdict, judge
from workers.sender import Attempt, Target, make_traces, send
from workers.settling import UNSETTLED, Settlement, Settler
from workers.slices import Workshop
from workers.targets import TargetBook

MAX_IN_FLIGHT = 400
LANES_AT_ONCE = 100
LEASE_MARGIN_S = 30.0
PAUSE_S = 0.005
"""Between two claims of a busy dispatcher: fuller batches against less lag."""
TIDY_S = 1.0
TIDY_ROWS = 1000
MAX_LOST_LEASES = 5
CLOSE_S = 6.0
UNREADABLE_PAUSE_S = 10.0
CROWDED_STATUS = 429
log = get_logger("dispatcher")


class Claim(msgspec.Struct, frozen=True):
    """A row of delivery_claim_many: a delivery leased to us. `number` counts its attempts."""

    id: int
    token: int
    endpoint_id: str
    event_id: str
    type: str
    number: int
    left_s: float | None
    body: bytes | None
    deferred: int


class Dispatcher:
    """Part `part` of `parts` (a power of two): the lanes whose endpoint's hash says so."""

    topics: tuple[Topic, ...] = ("delivery",)
    idle_s = 0.2

    def __init__(self, shop: Workshop, name: str, part: int = 0, parts: int = 1) -> None:
        self.name = name
        self._shop = shop
        self._part, self._parts = part, parts
        self._lanes: defaultdict[str, Lane] = defaultdict(Lane)
        self._flights: dict[asyncio.Task[None], tuple[int, int]] = {}
        self._settler = Settler(shop.pool)
        self._session: aiohttp.ClientSession | None = None
        self._book: TargetBook | None = None
        self._tidied = 0.0

    async def once(self) -> int:
        """Starts what is due and fits; the number started or put off behind their leads."""
        if time.monotonic() - self._tidied > TIDY_S:
            await self._tidy()
        room = MAX_IN_FLIGHT - len(self._flights)
        if room <= 0:
            return 0
        claims, deferred = await self._claim(room)
        if claims:
            await self._launch(claims)
            await asyncio.sleep(PAUSE_S)
        return len(claims) + deferred

    async def close(self) -> None:
        """When the process stops: ends the flights. Else they end by themselves meanwhile."""
        farewell = asyncio.create_task(self._land())
        if self._shop.stopping.is_set():
            await farewell

    async def _claim(self, room: int) -> tuple[list[Claim], int]:
        """Up to `room` deliveries, and how many more were put off."""
        now = time.monotonic()
        free = {i: min(lane.count_free(now), room) for i, lane in self._lanes.items()}
        rows = await self._shop.pool.fetch(
            sql.delivery_claim_many, self._part, self._parts, list(free), list(free.values()),
            min(int(FIRST_WINDOW), room), LANES_AT_ONCE, room, LEASE_MARGIN_S,
            int(self._shop.settings.webhook_timeout_s * 1000), True,
        )  # fmt: skip
        claims = [Claim(*row.values()) for row in rows if row["id"] is not None]
        return claims, rows[0]["deferred"]

    async def _launch(self, claims: list[Claim]) -> None:
        if self._book is None:
            settings = self._shop.settings
            self._book = TargetBook(self._shop.pool, make_box(settings), settings.webhook_timeout_s)
        targets = await self._book.get_many(claim.endpoint_id for claim in claims)
        if self._session is None:
            private = self._shop.settings.webhook_allow_private
            self._session = open_session(private=private, traces=[make_traces()])
        unsendable = []
        for claim in claims:
            target = targets[claim.endpoint_id]
            if target is None:
                unsendable.append(claim)
                self._lanes[claim.endpoint_id].closed_until = time.monotonic() + UNREADABLE_PAUSE_S
                continue
            self._lanes[target.id].begin(claim.token)
            flight = asyncio.create_task(self._fly(self._session, target, claim))
            self._flights[flight] = (claim.id, claim.token)
            flight.add_done_callback(self._flights.pop)
        await self._give_back([(claim.id, claim.token) for claim in unsendable])

    async def _fly(self, session: aiohttp.ClientSession, target: Target, claim: Claim) -> None:
        lane = self._lanes[target.id]
        try:
            if claim.body is None:
                attempt = Attempt(datetime.now(UTC), error="event_expired")
                verdict = Verdict("failed")
            else:
                attempt = await send(session, target, claim.event_id, claim.number, claim.body)
                verdict = self._judge(target, claim, attempt)
            await self._settle(lane, target, claim, attempt, verdict)
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back([(claim.id, claim.token)]))
            raise
        except UNSETTLED as error:  # the lease will run out
            log.warning("delivery.unsettled", delivery_id=claim.id, error=repr(error))
        finally:
            lane.end(claim.token)
            self._shop.wakeups.wake_here("delivery")

    @staticmethod
    def _judge(target: Target, claim: Claim, attempt: Attempt) -> Verdict:
        answer = Answer(attempt.status, attempt.error, attempt.retry_after, attempt.control)
        profile = PROFILES[target.retry]
        return judge(answer, profile, claim.number, claim.left_s, datetime.now(UTC))

    async def _settle(
        self, lane: Lane, target: Target, claim: Claim, attempt: Attempt, verdict: Verdict
    ) -> None:
        if verdict.outcome == "delivered":
            lane.note_success()
        else:
            crowded = attempt.status is None or attempt.status == CROWDED_STATUS
            lane.note_failure(crowded=crowded or (attempt.status or 0) >= 500)  # noqa: PLR2004
        if verdict.pause_lane_s:
            lane.closed_until = time.monotonic() + verdict.pause_lane_s
            await self._shop.pool.execute(sql.endpoint_close_lane, target.id, verdict.pause_lane_s)
        if verdict.disable is not None:
            await self._disable(target.id, verdict.disable)
        settled = await self._settler.settle(
            Settlement(claim.id, claim.token, claim.number, target, attempt, verdict)
        )
        if not settled:
            STALE_SETTLEMENTS.inc()
        self._report(target, claim, attempt, verdict, settled)

    async def _disable(self, endpoint_id: str, reason: str) -> None:
        if await self._shop.pool.fetchval(sql.endpoint_disable, endpoint_id, reason):
            log.warning("endpoint.disabled", endpoint_id=endpoint_id, reason=reason)

    async def _tidy(self) -> None:
        """Takes lost leases back, cancels what has no endpoint, writes down the lanes' health."""
        pool = self._shop.pool
        for row in await pool.fetch(sql.delivery_reap_many, TIDY_ROWS, MAX_LOST_LEASES):
            LOST_LEASES.inc()
            log.warning(
                "lease.lost", delivery_id=row["id"], endpoint_id=row["endpoint_id"],
                event_id=row["event_id"], number=row["attempts"], given_up=row["given_up"],
            )  # fmt: skip
        await pool.execute(sql.delivery_cancel_orphans, TIDY_ROWS)
        await self._save_health()
        self._tidied = time.monotonic()

    async def _save_health(self) -> None:
        told = {i: lane for i, lane in self._lanes.items() if lane.succeeded or lane.failed}
        if told:
            tally = [(i, lane.succeeded, lane.failed, lane.trips) for i, lane in told.items()]
            for lane in told.values():
                lane.succeeded, lane.failed = False, 0
            columns = [list(column) for column in zip(*tally, strict=True)]
            await self._shop.pool.execute(sql.endpoint_health_save_many, *columns)

    async def _give_back(self, leases: list[tuple[int, int]]) -> None:
        if leases:
            ids, tokens = ([lease[place] for lease in leases] for place in (0, 1))
            with suppress(*DATABASE_AWAY):  # the leases will run out
                await self._shop.pool.execute(sql.delivery_give_back_many, ids, tokens)

    async def _land(self) -> None:
        flights = list(self._flights)
        try:
            if flights:
                await asyncio.wait(
                    flights, timeout=CLOSE_S if self._shop.stopping.is_set() else None
                )
                for flight in flights:
                    flight.cancel()
                await asyncio.gather(*flights, return_exceptions=True)
        finally:
            if self._session is not None:
                await self._session.close()

    @staticmethod
    def _report(
        target: Target, claim: Claim, attempt: Attempt, verdict: Verdict, settled: bool
    ) -> None:
        outcome = verdict.outcome if settled else "stale"
        DELIVERY_ATTEMPTS.labels(outcome).inc()
        DELIVERY_SECONDS.observe(attempt.total_ms / 1000)
        line: dict[str, Any] = {
            "delivery_id": claim.id, "endpoint_id": target.id, "tenant_id": target.tenant_id,
            "event_id": claim.event_id, "type": claim.type, "number": claim.number,
            "outcome": outcome, "status": attempt.status, "ms": round(attempt.total_ms, 1),
        }  # fmt: skip
        if attempt.error is not None:
            line["error"] = attempt.error
        if verdict.outcome == "retry":
            line["next_in_s"] = round(verdict.due_in_s, 1)
        log.info("delivery.attempted", **line)
