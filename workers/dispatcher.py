"""Sends what is due: claims deliveries for many lanes in one query, sends, settles in batches.

At least once: a delivery is leased under a token for longer than an attempt can take, so whoever
dies or sleeps loses it to the next claim, and a late settlement fails on its token. In order per
lead and endpoint: delivery_claim_many passes over what stands behind an unfinished earlier one.
"""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import sql
from service.db import DATABASE_AWAY
from service.ids import make_id
from service.logs import get_logger
from service.metrics import (
    DELIVERIES_EXPIRED,
    DELIVERY_ATTEMPTS,
    DELIVERY_SECONDS,
    STALE_SETTLEMENTS,
)
from service.secretbox import make_box
from service.wakeups import Topic
from workers.delivery.claims import Claim, Claimer
from workers.delivery.connections import Connections
from workers.delivery.lane import MAX_YIELDING, ORDINARY, Lanes, find_bulk, find_limit
from workers.delivery.payload import make_thin
from workers.delivery.retry import PROFILES, Answer, Verdict, judge
from workers.delivery.sender import Attempt, Target, send
from workers.delivery.settling import UNSETTLED, Settlement, Settler
from workers.delivery.targets import TargetBook
from workers.delivery.tidying import judge_failing, reap_leases, save_health, sweep
from workers.slices import Workshop

TIDY_S = 1.0
CLOSE_S = 6.0
UNREADABLE_PAUSE_S = 10.0
TOO_MANY, SERVER_ERROR = 429, 500
log = get_logger("dispatcher")


class Dispatcher:
    """Part `part` of `parts`: the lanes whose endpoint's hash says so."""

    topics: tuple[Topic, ...] = ("delivery",)
    idle_s = 0.2

    def __init__(self, shop: Workshop, name: str, part: int = 0, parts: int = 1) -> None:
        self.name = name
        self._shop = shop
        self._lanes = Lanes()
        self._flights: dict[asyncio.Task[None], Claim] = {}
        self._yielding = 0
        self._most = ORDINARY
        """In flight before a place that comes free is worth a claim."""
        self._settler = Settler(shop.pool)
        self._connections = Connections(private=shop.settings.webhook_allow_private)
        self._claimer = Claimer(shop.pool, part, parts, shop.settings.webhook_timeout_s)
        self._book: TargetBook | None = None
        self._tidied = 0.0
        self._tidying: asyncio.Task[None] | None = None
        self._broom = asyncio.Lock()

    @property
    def has_all(self) -> bool:
        """No lane is known to have more, and places that come free say so."""
        return not self._claimer.has_more()

    async def once(self) -> int:
        """Starts what is due and fits; the number started or put off behind their leads."""
        self._tidy_meanwhile()
        stuck = self._lanes.count_stuck(time.monotonic())
        room = find_limit(stuck) - len(self._flights)
        self._most = find_limit(stuck) - find_bulk(stuck)
        if len(self._flights) > self._most:
            return 0
        yielding = max(MAX_YIELDING - self._yielding, 0)
        claims, deferred = await self._claimer.claim(self._lanes, room, yielding)
        if claims:
            await self._launch(claims)
        return len(claims) + deferred

    async def tidy(self) -> None:
        """What is to be done every second, whether or not something is due; one at a time."""
        pool = self._shop.pool
        async with self._broom:
            await reap_leases(pool)
            await sweep(pool)
            await save_health(pool, self._lanes.take_tallies())
            await judge_failing(pool)

    async def close(self) -> None:
        """When the process stops: ends the flights. Else they end by themselves meanwhile."""
        farewell = asyncio.create_task(self._land())
        if self._shop.stopping.is_set():
            await farewell

    def _tidy_meanwhile(self) -> None:
        """Beside the deliveries, so that none waits for it. Raises what the last time raised."""
        if self._tidying is not None and self._tidying.done():
            tidied, self._tidying = self._tidying, None
            tidied.result()
        if self._tidying is None and time.monotonic() - self._tidied > TIDY_S:
            self._tidied = time.monotonic()
            self._tidying = asyncio.create_task(self.tidy())

    async def _launch(self, claims: list[Claim]) -> None:
        if self._book is None:
            settings = self._shop.settings
            self._book = TargetBook(self._shop.pool, make_box(settings), settings.webhook_timeout_s)
        targets = await self._book.get_many(claim.endpoint_id for claim in claims)
        now = time.monotonic()
        unsendable = []
        for claim in claims:
            target, lane = targets[claim.endpoint_id], self._lanes[claim.endpoint_id]
            if target is None:
                unsendable.append(claim)
                lane.close(now + UNREADABLE_PAUSE_S)
                continue
            lane.learn(target.rate_limit, target.trips, now)
            lane.begin(claim.token, now)
            self._yielding += claim.yields
            flight = asyncio.create_task(self._fly(target, claim))
            self._flights[flight] = claim
            flight.add_done_callback(self._flights.pop)
        await self._claimer.give_back(unsendable)

    async def _fly(self, target: Target, claim: Claim) -> None:
        try:
            if time.monotonic() > claim.send_by:
                await self._drop(claim)
                return
            attempt, verdict = await self._send(target, claim)
            settlement = Settlement(claim.id, claim.token, claim.number, target, attempt, verdict)
            settled = await self._settler.settle(settlement)
            _report(target, claim, attempt, verdict, settled=settled is not None)
            if settled == "called":
                self._claimer.note_due(target.id)
        except asyncio.CancelledError:
            await asyncio.shield(self._claimer.give_back([claim]))
            raise
        except UNSETTLED as error:  # the lease will run out
            log.warning("delivery.unsettled", delivery_id=claim.id, error=repr(error))
        except Exception:  # poison: after MAX_LOST_LEASES of these it is given up
            log.exception("delivery.broken", delivery_id=claim.id, event_id=claim.event_id)
        finally:
            self._yielding -= claim.yields
            self._look_again()

    async def _drop(self, claim: Claim) -> None:
        """The process stood still since the claim: somebody else may be sending this by now."""
        self._lanes[claim.endpoint_id].end(claim.token)
        log.warning("claim.late", delivery_id=claim.id, endpoint_id=claim.endpoint_id)
        await self._claimer.give_back([claim])

    async def _send(self, target: Target, claim: Claim) -> tuple[Attempt, Verdict]:
        """One attempt, with its place in the lane, which the next need not wait to be settled."""
        try:
            attempt, verdict = await self._attempt(target, claim)
            await self._follow(target, attempt, verdict)
        finally:
            self._lanes[target.id].end(claim.token)
        self._look_again()
        return attempt, verdict

    def _look_again(self) -> None:
        """A place has come free, perhaps for one that waits."""
        if self._claimer.has_more() and len(self._flights) - 1 <= self._most:
            self._shop.wakeups.wake_here("delivery")

    async def _attempt(self, target: Target, claim: Claim) -> tuple[Attempt, Verdict]:
        if claim.body is None:
            DELIVERIES_EXPIRED.inc()
            return Attempt(datetime.now(UTC), error="event_expired"), Verdict("failed")
        body = make_thin(claim.body) if target.thin else claim.body
        attempt = await send(self._connections, target, claim.event_id, claim.number, body)
        answer = Answer(attempt.status, attempt.error, attempt.retry_after, attempt.control)
        profile = PROFILES[target.retry]
        return attempt, judge(answer, profile, claim.number, claim.left_s, datetime.now(UTC))

    async def _follow(self, target: Target, attempt: Attempt, verdict: Verdict) -> None:
        """What an answer means for the lane; in the database before the delivery is due again."""
        lane, now = self._lanes[target.id], time.monotonic()
        pause_s, took_s = verdict.pause_lane_s, attempt.total_ms / 1000
        if verdict.disable is not None:
            whose = target.id, verdict.disable, make_id("evt")
            if await self._shop.pool.fetchval(sql.endpoint_disable, *whose):
                log.warning("endpoint.disabled", endpoint_id=target.id, reason=verdict.disable)
        elif attempt.error is None:
            lane.note_success(now, took_s)
        else:
            status = attempt.status or SERVER_ERROR
            opened_s = lane.note_failure(
                now,
                took_s,
                unreachable=attempt.status is None,
                crowded=status == TOO_MANY or status >= SERVER_ERROR,
            )
            if opened_s:
                log.warning("breaker.opened", endpoint_id=target.id, seconds=opened_s)
            pause_s = max(pause_s, opened_s)
        if pause_s:
            lane.close(now + pause_s)
            closing = target.id, pause_s, verdict.pause_lane_s  # an open breaker is not excused
            await self._shop.pool.execute(sql.endpoint_close_lane, *closing)
            lane.note_saved(now + pause_s, time.monotonic())

    async def _land(self) -> None:
        flights = list(self._flights)
        try:
            if flights:
                patience_s = CLOSE_S if self._shop.stopping.is_set() else None
                await asyncio.wait(flights, timeout=patience_s)
                for flight in flights:
                    flight.cancel()
                await asyncio.gather(*flights, return_exceptions=True)
            with suppress(*DATABASE_AWAY):
                await save_health(self._shop.pool, self._lanes.take_tallies())
        finally:
            if self._tidying is not None:
                self._tidying.cancel()
                await asyncio.gather(self._tidying, return_exceptions=True)
            await self._connections.close()


def _report(
    target: Target, claim: Claim, attempt: Attempt, verdict: Verdict, *, settled: bool
) -> None:
    if not settled:
        STALE_SETTLEMENTS.inc()
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
