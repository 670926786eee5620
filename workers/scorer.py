"""Keeps scores up to date: after events of a lead, and when a score becomes stale with time.

An event only marks its lead as dirty, and the lead is scored in its current state. Hence the
order and number of events do not matter, and bursts coalesce. The scorer's own events mark no
lead, so that a score never causes another scoring.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
from asyncpg import Record

import sql
from service.database.connect import Pool
from service.events.event_log import Event
from service.ids import make_id
from service.leads.scores import encode_factors
from service.telemetry.logging import get_logger
from service.telemetry.metrics import JOB_FAILURES, LEADS_SCORED
from workers.jobs import Job, WorkerContext
from workers.reader import Move, Reader, check_moved
from workers.scoring.rules import BUILTIN_RULES, Rules
from workers.scoring.score import Facts, Score, score_lead

ACTOR = "scorer"
"""The actor of the events that sql/score.sql appends."""
LEADS_PER_SLICE = 50
"""Scoring blocks the event loop; after this number of leads other tasks may run."""
SWEEP_S = 30.0
SWEEP_LIMIT = 1000
log = get_logger("scorer")

LeadKey: TypeAlias = tuple[int, bool, str]
"""tenant, live, id"""
Scoring: TypeAlias = Callable[[Facts, Rules, datetime], Score]


class Rescored(msgspec.Struct, frozen=True):
    """The number of leads written, and the number whose score changed."""

    written: int = 0
    changed: int = 0


class Scorer(Reader):
    """Scores the leads of events that other actors caused."""

    name = "scorer"

    def __init__(self, context: WorkerContext, scoring: Scoring = score_lead) -> None:
        super().__init__(context)
        self._scoring = scoring

    async def apply(self, events: list[Event], move: Move) -> bool:
        """Writes the scores of the leads that have changed."""
        scores = await compute_scores(self.context.pool, find_dirty_leads(events), self._scoring)
        if not scores:
            return False
        rescored = await write_scores(self.context.pool, scores, move)
        report_rescored(self.context, self.name, rescored)
        return True


class Rescorer(Job):
    """Scores the leads whose score has become stale with time."""

    name = "rescorer"
    idle_s = SWEEP_S

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    async def once(self) -> int:
        """Scores at most SWEEP_LIMIT leads. Returns the number written."""
        pool = self._context.pool
        stale = await pool.fetch(sql.score_list_stale, SWEEP_LIMIT)
        rescored = await rescore_leads(pool, [_to_key(row) for row in stale])
        report_rescored(self._context, self.name, rescored)
        return rescored.written


def find_dirty_leads(events: list[Event]) -> list[LeadKey]:
    """The leads that another actor than the scorer has changed, each once, in key order."""
    return sorted(
        {(event.tenant_id, event.live, event.lead_id) for event in events if event.actor != ACTOR}
    )


async def rescore_leads(
    pool: Pool, leads: Sequence[LeadKey], scoring: Scoring = score_lead
) -> Rescored:
    """Scores leads as they are now; writes those whose score or factors differ."""
    scores = await compute_scores(pool, leads, scoring)
    return await write_scores(pool, scores) if scores else Rescored()


async def compute_scores(
    pool: Pool, leads: Sequence[LeadKey], scoring: Scoring = score_lead
) -> list[dict[str, Any]]:
    """The input of score_write_many: the leads, as they are now, whose score or factors differ."""
    if not leads:
        return []
    tenants, lives, ids = zip(*leads, strict=True)
    scores: list[dict[str, Any]] = []
    for number, row in enumerate(await pool.fetch(sql.score_read_many, tenants, lives, ids), 1):
        scores += rescore_lead(row, scoring)
        if number % LEADS_PER_SLICE == 0:
            await asyncio.sleep(0)
    return scores


async def write_scores(
    pool: Pool, scores: list[dict[str, Any]], move: Move | None = None
) -> Rescored:
    """Stores scores and makes the move of the cursor, both or neither. Raises CursorMovedError.

    Skips a lead that was deleted or changed meanwhile: it then has a newer event.
    """
    arguments = move.arguments if move else (None,) * 5
    text = msgspec.json.encode(scores).decode()
    row = await pool.fetchrow(sql.score_write_many, *arguments, text)
    check_moved(row)
    return Rescored(row["written"], row["changed"])


def rescore_lead(row: Record, scoring: Scoring) -> list[dict[str, Any]]:
    """The input of score_write_many for one lead; empty if its score stays the same."""
    rules = BUILTIN_RULES
    try:
        score = scoring(_to_facts(row), rules, row["now"])
    except Exception as error:
        # One lead that the rules cannot score must not block all later ones.
        JOB_FAILURES.labels("scorer").inc()
        log.exception("lead.unscorable", lead=row["id"], exc_info=error)
        return []
    factors = encode_factors(score.factors)
    new = (score.score, factors, rules.version, score.stale_at)
    if new == (row["score"], row["factors"], row["rules"], row["stale_at"]):
        return []
    return [
        {
            "tenant_id": row["tenant_id"],
            "live": row["live"],
            "id": row["id"],
            "version": row["version"],
            "score": score.score,
            "factors": factors,
            "rules": rules.version,
            "stale_at": score.stale_at,
            "event_id": make_id("evt"),
        }
    ]


def report_rescored(context: WorkerContext, by: str, rescored: Rescored) -> None:
    """Counts and logs the result, and wakes the ticker if there are new events."""
    if rescored.written:
        LEADS_SCORED.inc(rescored.written)
        log.info("leads.scored", by=by, written=rescored.written, changed=rescored.changed)
    if rescored.changed:
        context.wakeups.notify("event")


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
    """Custom fields; empty if they hold a number that PostgreSQL accepts and Python does not."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
