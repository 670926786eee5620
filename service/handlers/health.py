"""Liveness, readiness and metrics."""

import asyncio
from contextlib import suppress
from typing import Any, Literal

import sql
from service.database.connect import DATABASE_AWAY, Connection, Pool
from service.database.schema import SCHEMA_BEHIND, describe_missing, find_missing
from service.errors import NotFound
from service.events.monitoring import find_worker_faults, read_worker_health, set_gauges
from service.http.request import Request
from service.http.responses import Response, reply
from service.http.state import State
from service.telemetry.metrics import (
    DELIVERIES_MISSING,
    DELIVERIES_UNPROVEN_SECONDS,
    DELIVERY_LATENESS_SECONDS,
)
from service.telemetry.metrics_server import CONTENT_TYPE, check_token
from service.validation.field_types import ApiStruct
from service.webhooks.reconciliation import find_end


class Health(ApiStruct):
    """`checks` maps the name of each part to `ok` or to its fault.

    `degraded`: requests are served, but scores, webhooks or streams may be late, or only reads are
    served because the disk is full. A part that could not be checked is not in `checks`.
    """

    status: Literal["ok", "degraded", "failing"]
    checks: dict[str, str]


async def report_live(_: Request) -> Response:
    """GET: 200 if the process runs and its event loop is not blocked."""
    return reply(Health(status="ok", checks={}))


async def report_ready(request: Request) -> Response:
    """GET: 200 if requests can be served, `degraded` if `checks` has a fault; 503 if not."""
    state = request.state
    if state.shutdown.has_begun:
        return _fail({"process": "is about to end"})
    failing = {}
    if not state.settings.secret_key:
        failing["secretKey"] = "SECRET_KEY is not set, so webhooks cannot be used"
    checks = {"database": "ok", "migrations": "ok", "redis": "ok"}
    faults = _find_own_faults(state)
    try:
        async with asyncio.timeout(2), state.batched_pool.acquire() as conn:
            if missing := await find_missing(conn):
                failing["migrations"] = describe_missing(missing)
            else:
                faults |= find_worker_faults(await read_worker_health(conn))
                checks |= {"workers": "ok", "readers": "ok"}
    except DATABASE_AWAY as error:
        return _fail({"database": f"cannot be reached ({type(error).__name__})"})
    if failing:
        return _fail(checks | faults | failing)
    return reply(Health(status="degraded" if faults else "ok", checks=checks | faults))


def _find_own_faults(state: State) -> dict[str, str]:
    """The faults that requests of this process met: Redis and the disk of the database."""
    faults = {}
    if (error := state.limiter.redis_error) is not None:
        faults["redis"] = (
            f"cannot be used ({error}): wake-ups take longer, CRM streams stand still, and each "
            "API process enforces its part of the rate limits"
        )
    if state.pool.has_full_disk() or state.batched_pool.has_full_disk():
        faults["disk"] = "the disk of the database is full, so nothing can be written"
    return faults


def _fail(checks: dict[str, str]) -> Response:
    return reply(Health(status="failing", checks=checks), 503)


async def report_metrics(request: Request) -> Response:
    """GET: Prometheus text, at most a second old; 404 if it is served on METRICS_PORT instead."""
    settings = request.state.settings
    if settings.metrics_port is not None:
        raise NotFound("Metrics are served on METRICS_PORT.")
    check_token(request.header(b"authorization"), settings)
    return Response(await request.state.metrics.read(), media_type=CONTENT_TYPE)


async def measure_lateness(pool: Pool) -> None:
    """Set the gauges of lag; they keep their values while the database is away or not migrated."""
    with suppress(*DATABASE_AWAY, *SCHEMA_BEHIND):  # the other metrics must remain available
        async with asyncio.timeout(2), pool.acquire() as conn:
            await _measure(conn)


async def _measure(conn: Connection) -> None:
    set_gauges(await read_worker_health(conn))
    figures: Any = await conn.fetchrow(sql.reconciliation_get_figures)
    DELIVERIES_MISSING.set(figures["differing"])
    DELIVERIES_UNPROVEN_SECONDS.set((await find_end(conn, figures["tick"])).behind_s)
    DELIVERY_LATENESS_SECONDS.set(await conn.fetchval(sql.lane_get_lateness))
