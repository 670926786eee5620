"""Is it alive, is it ready, how does it fare."""

import asyncio
from typing import Any, Literal

from starlette.responses import Response

import sql
from service.db import DATABASE_AWAY, Connection
from service.http.call import Call
from service.http.replies import reply
from service.metrics import (
    DELIVERIES_MISSING,
    DELIVERIES_UNPROVEN_SECONDS,
    DELIVERY_LATENESS_SECONDS,
    READER_LAG_SECONDS,
    render_metrics,
)
from service.models import Wire
from service.webhooks.reconciling import find_end
from sql.migrate import read_migrations

MIGRATIONS = frozenset(migration.name for migration in read_migrations())
LAG_LIMIT_S = 60.0
"""Readers further behind are reported; the API itself stays ready, it loses nothing by it."""


class Health(Wire):
    """`checks` names each part and says ok, or what is wrong with it."""

    status: Literal["ok", "failing"]
    checks: dict[str, str]


async def report_live(_: Call) -> Response:
    """The process runs and its event loop turns."""
    return reply(Health(status="ok", checks={}))


async def report_ready(call: Call) -> Response:
    """200 if requests can be served, 503 if not; either way each check by name."""
    checks = {"database": "ok", "migrations": "ok", "readers": "ok"}
    failing = False
    if call.state.drain.has_begun:
        return _fail({"process": "is about to end"})
    try:
        async with asyncio.timeout(2), call.state.batched_pool.acquire() as conn:
            applied = {row["name"] for row in await conn.fetch(sql.migration_list)}
            if missing := sorted(MIGRATIONS - applied):
                checks["migrations"] = f"not applied: {', '.join(missing)}; run `leadlog migrate`"
                failing = True
            else:
                lags = await conn.fetch(sql.reader_lag)
                late = [f"{r['name']} {r['lag_s']:.0f} s" for r in lags if r["lag_s"] > LAG_LIMIT_S]
                if late:
                    checks["readers"] = f"behind: {', '.join(late)}; is `leadlog work` running?"
    except DATABASE_AWAY as error:
        return _fail({"database": f"cannot be reached ({type(error).__name__})"})
    return _fail(checks) if failing else reply(Health(status="ok", checks=checks))


def _fail(checks: dict[str, str]) -> Response:
    return reply(Health(status="failing", checks=checks), 503)


async def report_metrics(call: Call) -> Response:
    """Prometheus text; what says how late things are is asked of the database at each scrape."""
    try:
        async with asyncio.timeout(2), call.state.batched_pool.acquire() as conn:
            await _measure(conn)
    except DATABASE_AWAY:
        pass  # the other metrics are wanted all the more
    return Response(render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _measure(conn: Connection) -> None:
    for row in await conn.fetch(sql.reader_lag):
        READER_LAG_SECONDS.labels(row["name"]).set(row["lag_s"])
    figures: Any = await conn.fetchrow(sql.reconciliation_get_figures)
    DELIVERIES_MISSING.set(figures["differing"])
    DELIVERIES_UNPROVEN_SECONDS.set((await find_end(conn, figures["tick"])).behind_s)
    DELIVERY_LATENESS_SECONDS.set(await conn.fetchval(sql.lane_get_lateness))
