"""Sends due deliveries: claims for many lanes in one query, sends them, settles in batches.

Deliveries are sent at least once: a claim leases a delivery under a fencing token for longer than
an attempt can take. A dispatcher that dies or stalls loses the delivery to the next claim, and its
late settlement fails on the token. Deliveries of a lead to an endpoint are sent in order:
delivery_claim_many skips a delivery while an earlier one is unfinished.
"""

import asyncio
import time
from contextlib import suppress

from service.database.connect import DATABASE_AWAY
from service.encryption import make_encryptor
from service.events.wake_ups import Topic
from workers.delivery.claims import Claim, Claimer
from workers.delivery.deliverer import Deliverer
from workers.delivery.endpoint_cache import EndpointCache
from workers.delivery.lane import (
    MAX_YIELDING,
    ORDINARY,
    Lanes,
    choose_claim_size,
    choose_in_flight_limit,
)
from workers.delivery.maintenance import Maintenance
from workers.delivery.sender import EndpointConfig
from workers.jobs import Job, WorkerContext

CLOSE_S = 6.0
UNREADABLE_PAUSE_S = 10.0


class Dispatcher(Job):
    """Serves the lanes whose endpoint's hash belongs to part `part` of `parts`."""

    topics: tuple[Topic, ...] = ("delivery",)
    idle_s = 0.5
    """Retries are late by this much at most; new deliveries wake the dispatcher."""

    def __init__(self, context: WorkerContext, name: str, part: int = 0, parts: int = 1) -> None:
        self.name = name
        self._context = context
        self._lanes = Lanes()
        self._claimer = Claimer(
            context.pool, context.clock, part, parts, context.settings.webhook_timeout_s
        )
        self._deliverer = Deliverer(context, self._lanes, self._claimer, self._wake_if_worthwhile)
        self._endpoints: EndpointCache | None = None
        self.maintenance = Maintenance(context.pool, self._lanes)
        self._in_flight: dict[asyncio.Task[None], Claim] = {}
        self._yielding = 0
        self._claim_below = ORDINARY
        """With more deliveries in flight, a free slot is not worth a claim."""

    @property
    def is_drained(self) -> bool:
        """Whether no listed lane has more deliveries. A released slot wakes the dispatcher."""
        return not self._claimer.has_more()

    async def once(self) -> int:
        """Starts due deliveries within the limits; returns the number started or deferred."""
        self.maintenance.start_if_due()
        stuck = self._lanes.count_stuck(time.monotonic())
        limit = choose_in_flight_limit(stuck)
        self._claim_below = limit - choose_claim_size(stuck)
        if len(self._in_flight) > self._claim_below:
            return 0
        free_slots = limit - len(self._in_flight)
        max_yielding = max(MAX_YIELDING - self._yielding, 0)
        claims, deferred = await self._claimer.claim(self._lanes, free_slots, max_yielding)
        if claims:
            await self._start_many(claims)
        return len(claims) + deferred

    async def close(self) -> None:
        """Finishes the deliveries in flight; waits for them only if the process stops."""
        finishing = asyncio.create_task(self._finish())
        if self._context.stopping.is_set():
            await finishing

    async def _start_many(self, claims: list[Claim]) -> None:
        if self._endpoints is None:
            settings = self._context.settings
            self._endpoints = EndpointCache(
                self._context.pool, make_encryptor(settings), settings.webhook_timeout_s
            )
        endpoints = await self._endpoints.get_many(claim.endpoint_id for claim in claims)
        now = time.monotonic()
        unsendable = []
        for claim in claims:
            endpoint = endpoints[claim.endpoint_id]
            if endpoint is None:
                unsendable.append(claim)
                self._lanes[claim.endpoint_id].close(now + UNREADABLE_PAUSE_S)
            else:
                self._start(endpoint, claim, now)
        await self._claimer.give_back(unsendable)

    def _start(self, endpoint: EndpointConfig, claim: Claim, now: float) -> None:
        lane = self._lanes[endpoint.id]
        lane.update_settings(endpoint.rate_limit, endpoint.trips, now)
        lane.start_request(claim.token, now)
        self._yielding += claim.yields
        task = asyncio.create_task(self._deliver(endpoint, claim))
        self._in_flight[task] = claim
        task.add_done_callback(self._in_flight.pop)

    async def _deliver(self, endpoint: EndpointConfig, claim: Claim) -> None:
        try:
            await self._deliverer.deliver(endpoint, claim)
        finally:
            self._yielding -= claim.yields
            self._wake_if_worthwhile()

    def _wake_if_worthwhile(self) -> None:
        """Wakes this job if more is due and the slots that are free now are worth a claim."""
        if self._claimer.has_more() and len(self._in_flight) - 1 <= self._claim_below:
            self._context.wakeups.wake_here("delivery")

    async def _finish(self) -> None:
        tasks = list(self._in_flight)
        try:
            if tasks:
                timeout_s = CLOSE_S if self._context.stopping.is_set() else None
                await asyncio.wait(tasks, timeout=timeout_s)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(*DATABASE_AWAY):
                await self.maintenance.save_health()
        finally:
            await self.maintenance.stop()
            await self._deliverer.close()
