"""Keeps scores true: after events that concern a lead, and when time alone makes a score stale.

Level-triggered: an event only says that its lead is dirty. What counts is the lead as it is now, so
the order and number of events do not matter and bursts coalesce. The scorer's own events make no
lead dirty, so that a score never causes a rescoring.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
from asyncpg import Record

import sql
from service.db import Connection
from service.ids import make_id
from service.leads.scores import encode_factors
from service.log import Event
from service.logs import get_logger
from service.metrics import LEADS_SCORED, SLICE_FAILURES
from service.wakeups import Topic
from workers.reader import Reader
from workers.scoring.score import BUILTIN_RULES, Facts, Rules, Score, score_lead
from workers.slices import Workshop

ACTOR = "scorer"
"""Who the events that sql/score.sql makes say it was."""
BREATH = 50
"""Scoring computes: after so many leads the other slices of the process get their turn."""
SWEEP_S = 30.0
SWEEP_LIMIT = 1000
log = get_logger("scorer")

LeadKey: TypeAlias = tuple[int, bool, str]
"""tenant, live, id"""
Scoring: TypeAlias = Callable[[Facts, Rules, datetime], Score]


class Rescored(msgspec.Struct, frozen=True):
    """How many leads were written, and how many of them got another score."""

    written: int = 0
    changed: int = 0


class Scorer(Reader):
    """Rescores the leads that events of others are about."""

    def __init__(self, shop: Workshop, name: str, scoring: Scoring = score_lead) -> None:
        super().__init__(shop, name)
        self._scoring = scoring
        self._rescored = Rescored()

    async def apply(self, conn: Connection, events: list[Event]) -> None:
        """Writes the scores in the transaction that moves the cursor."""
        self._rescored = Rescored()
        self._rescored = await rescore_leads(conn, find_dirty_leads(events), self._scoring)

    async def after_commit(self, _: list[Event]) -> None:
        """Wakes the ticker if there are new events."""
        report_rescored(self.shop, self.name, self._rescored)


class Rescorer:
    """A slice that rescores the leads whose score time alone has made stale."""

    name = "rescorer"
    topics: tuple[Topic, ...] = ()
    idle_s = SWEEP_S
    has_all = False

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    async def once(self) -> int:
        """Rescores at most SWEEP_LIMIT leads; how many were written."""
        async with self._shop.pool.acquire() as conn:
            stale = await conn.fetch(sql.score_list_stale, SWEEP_LIMIT)
            rescored = await rescore_leads(conn, [_to_key(row) for row in stale])
        report_rescored(self._shop, self.name, rescored)
        return rescored.written

    async def close(self) -> None:
        """Nothing is left running."""


def find_dirty_leads(events: list[Event]) -> list[LeadKey]:
    """The leads that somebody other than the scorer has touched, each once, in key order."""
    return sorted(
        {(event.tenant_id, event.live, event.lead_id) for event in events if event.actor != ACTOR}
    )


async def rescore_leads(
    conn: Connection, leads: Sequence[LeadKey], scoring: Scoring = score_lead
) -> Rescored:
    """Scores these leads as they are now; writes those whose score or its reasons are others.

    A lead that is gone, or changes meanwhile (it then has a newer event), is left alone.
    """
    if not leads:
        return Rescored()
    tenants, lives, ids = zip(*leads, strict=True)
    scores: list[dict[str, Any]] = []
    for number, row in enumerate(await conn.fetch(sql.score_read_many, tenants, lives, ids), 1):
        scores += rescore_lead(row, scoring)
        if number % BREATH == 0:
            await asyncio.sleep(0)
    if not scores:
        return Rescored()
    written = await conn.fetch(sql.score_write_many, msgspec.json.encode(scores).decode())
    return Rescored(len(written), sum(row["differs"] for row in written))


def rescore_lead(row: Record, scoring: Scoring) -> list[dict[str, Any]]:
    """What score_write_many needs for one lead; nothing if its score stands as it is."""
    rules = BUILTIN_RULES
    try:
        score = scoring(_to_facts(row), rules, row["now"])
    except Exception as error:
        # One lead that the rules cannot bear must not hold up all who come after it.
        SLICE_FAILURES.labels("scorer").inc()
        log.exception("lead.unscorable", lead=row["id"], exc_info=error)
        return []
    factors = encode_factors(score.factors)
    new = (score.score, factors, rules.version, score.stale_at)
    if new == (row["score"], row["score_factors"], row["score_rules"], row["score_stale_at"]):
        return []
    return [
        {
            "tenant_id": row["tenant_id"],
            "live": row["live"],
            "id": row["id"],
            "version": row["version"],
            "score": score.score,
            "factors": msgspec.Raw(factors.encode()),
            "rules": rules.version,
            "stale_at": score.stale_at,
            "event_id": make_id("evt"),
        }
    ]


def report_rescored(shop: Workshop, by: str, rescored: Rescored) -> None:
    """Says what was done, and wakes the ticker if there are new events."""
    if rescored.written:
        LEADS_SCORED.inc(rescored.written)
        log.info("leads.scored", by=by, written=rescored.written, changed=rescored.changed)
    if rescored.changed:
        shop.wakeups.notify("event")


def _to_key(row: Record) -> LeadKey:
    return row["tenant_id"], row["live"], row["id"]


def _to_facts(row: Record) -> Facts:
    return Facts(
        email_key=row["email_key"],
        name=row["name"],
        company=row["company"],
        title=row["title"],
        phone=row["phone"],
        status=row["status"],
        source=row["source"],
        tags=row["tags"],
        custom_fields=_decode_fields(row["custom_fields"]),
        conversation_count=row["conversation_count"],
        last_intent=row["last_intent"],
        last_active_at=row["last_active_at"],
    )


def _decode_fields(text: str) -> dict[str, Any]:
    """custom_fields; PostgreSQL's json takes what no number can hold, and that tells no score."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
