"""Carries out a claimed delivery: attempt, effect on its lane, settlement."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import sql
from service.events.payload import make_thin
from service.ids import make_id
from service.telemetry.logging import get_logger
from service.telemetry.metrics import (
    DELIVERIES_EXPIRED,
    DELIVERY_ATTEMPTS,
    DELIVERY_SECONDS,
    STALE_SETTLEMENTS,
)
from workers.delivery.claims import Claim, Claimer
from workers.delivery.connections import Connections
from workers.delivery.lane import Lanes
from workers.delivery.retry import PROFILES, AttemptResult, Decision, decide
from workers.delivery.sender import Attempt, EndpointConfig, send
from workers.delivery.settlement import WRITE_ERRORS, Settled, Settlement, SettlementWriter
from workers.jobs import WorkerContext

log = get_logger("dispatcher")


class Deliverer:
    """Carries out the deliveries of one dispatcher.

    `on_slot_free` is called as soon as a delivery has freed a slot of its lane.
    """

    def __init__(
        self,
        context: WorkerContext,
        lanes: Lanes,
        claimer: Claimer,
        on_slot_free: Callable[[], None],
    ) -> None:
        self._pool = context.pool
        self._clock = context.clock
        self._lanes = lanes
        self._claimer = claimer
        self._on_slot_free = on_slot_free
        self._connections = Connections(private=context.settings.webhook_allow_private)
        self._writer = SettlementWriter(context.pool)

    async def deliver(self, endpoint: EndpointConfig, claim: Claim) -> None:
        """Attempts and settles a delivery that has a slot; raises nothing but CancelledError."""
        try:
            if time.monotonic() > claim.send_by:
                await self._give_back_late(claim)
                return
            attempt, decision = await self._attempt_in_lane(endpoint, claim)
            settled = await self._settle(endpoint, claim, attempt, decision)
            _report(endpoint, claim, attempt, decision, settled)
            if settled == "made_next_due":
                self._claimer.mark_due(endpoint.id)
        except asyncio.CancelledError:
            await asyncio.shield(self._claimer.give_back([claim]))
            raise
        except WRITE_ERRORS as error:  # the lease will expire
            log.warning("delivery.unsettled", delivery_id=claim.id, error=repr(error))
        except Exception:  # after MAX_LOST_LEASES such errors the delivery is given up
            log.exception("delivery.broken", delivery_id=claim.id, event_id=claim.event_id)

    async def close(self) -> None:
        """Ends the idle connections."""
        await self._connections.close()

    async def _give_back_late(self, claim: Claim) -> None:
        """Gives back a delivery after a stall of this process: its lease may expire too early."""
        self._lanes[claim.endpoint_id].finish_request(claim.token)
        log.warning("claim.late", delivery_id=claim.id, endpoint_id=claim.endpoint_id)
        await self._claimer.give_back([claim])

    async def _attempt_in_lane(
        self, endpoint: EndpointConfig, claim: Claim
    ) -> tuple[Attempt, Decision]:
        """Attempts a delivery and frees its slot, which need not wait for the settlement."""
        try:
            attempt, decision = await self._attempt(endpoint, claim)
            await self._apply_to_lane(endpoint.id, attempt, decision)
        finally:
            self._lanes[endpoint.id].finish_request(claim.token)
        self._on_slot_free()
        return attempt, decision

    async def _attempt(self, endpoint: EndpointConfig, claim: Claim) -> tuple[Attempt, Decision]:
        now = self._clock.now()
        if claim.body is None:
            DELIVERIES_EXPIRED.inc()
            return Attempt(now, error="event_expired"), Decision("failed")
        body = make_thin(claim.body) if endpoint.thin else claim.body
        attempt = await send(self._connections, endpoint, claim.event_id, claim.number, body, now)
        result = AttemptResult(attempt.status, attempt.error, attempt.retry_after, attempt.control)
        profile = PROFILES[endpoint.retry]
        decision = decide(result, profile, claim.number, claim.left_s, self._clock.now())
        return attempt, decision

    async def _apply_to_lane(self, endpoint_id: str, attempt: Attempt, decision: Decision) -> None:
        """Disables the endpoint, or updates and perhaps closes its lane.

        The database stores both before the delivery becomes due again.
        """
        pause_s = decision.pause_lane_s
        if decision.disable is not None:
            await self._disable(endpoint_id, decision.disable)
        else:
            pause_s = max(pause_s, self._record_attempt(endpoint_id, attempt))
        if pause_s:
            lane, closed_until = self._lanes[endpoint_id], time.monotonic() + pause_s
            lane.close(closed_until)
            excused_s = (
                decision.pause_lane_s
            )  # an open breaker uses up the budget, a pause does not
            await self._pool.execute(sql.endpoint_close_lane, endpoint_id, pause_s, excused_s)
            lane.record_closure_saved(closed_until, time.monotonic())

    def _record_attempt(self, endpoint_id: str, attempt: Attempt) -> float:
        """Updates the lane; returns the seconds for which its breaker opens, 0 if it does not."""
        lane, now, response_s = self._lanes[endpoint_id], time.monotonic(), attempt.total_ms / 1000
        if attempt.error is None:
            lane.record_success(now, response_s)
            return 0.0
        status = attempt.status or HTTPStatus.INTERNAL_SERVER_ERROR
        pause_s = lane.record_failure(
            now,
            response_s,
            unreachable=attempt.status is None,
            overloaded=status == HTTPStatus.TOO_MANY_REQUESTS
            or status >= HTTPStatus.INTERNAL_SERVER_ERROR,
        )
        if pause_s:
            log.warning("breaker.opened", endpoint_id=endpoint_id, seconds=pause_s)
        return pause_s

    async def _disable(self, endpoint_id: str, reason: str) -> None:
        if await self._pool.fetchval(sql.endpoint_disable, endpoint_id, reason, make_id("evt")):
            log.warning("endpoint.disabled", endpoint_id=endpoint_id, reason=reason)

    async def _settle(
        self, endpoint: EndpointConfig, claim: Claim, attempt: Attempt, decision: Decision
    ) -> Settled:
        settlement = Settlement(
            delivery_id=claim.id,
            token=claim.token,
            number=claim.number,
            endpoint=endpoint,
            attempt=attempt,
            decision=decision,
        )
        return await self._writer.write(settlement)


def _report(
    endpoint: EndpointConfig, claim: Claim, attempt: Attempt, decision: Decision, settled: Settled
) -> None:
    """Counts and logs an attempt."""
    if settled is None:
        STALE_SETTLEMENTS.inc()
    outcome = "stale" if settled is None else decision.outcome
    DELIVERY_ATTEMPTS.labels(outcome).inc()
    DELIVERY_SECONDS.observe(attempt.total_ms / 1000)
    optional: dict[str, Any] = {}
    if attempt.error is not None:
        optional["error"] = attempt.error
    if decision.outcome == "retry":
        optional["next_in_s"] = round(decision.due_in_s, 1)
    log.info(
        "delivery.attempted",
        delivery_id=claim.id,
        endpoint_id=endpoint.id,
        tenant_id=endpoint.tenant_id,
        event_id=claim.event_id,
        type=claim.type,
        number=claim.number,
        outcome=outcome,
        status=attempt.status,
        ms=round(attempt.total_ms, 1),
        **optional,
    )
