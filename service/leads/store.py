"""Reads and writes of single leads: batched with those of other requests, each in one statement.

Every write logs its event in the statement that makes it, and keeps its answer there if it came
with an Idempotency-Key; see sql/lead.sql.
"""

import time
from collections.abc import Hashable, Sequence
from typing import TypeAlias

import asyncpg
import msgspec

import sql
from service.auth import Principal
from service.batching import Batcher
from service.db import Pool
from service.errors import Unavailable
from service.etags import Versions
from service.leads.outcomes import (
    Detail,
    HeldError,
    Shown,
    email_taken,
    held_too_long,
    judge_patch,
    make_detail,
    make_kept,
    make_shown,
    no_lead,
    stale,
)
from service.leads.rows import LeadRow, PatchRow, make_event_id, make_lead_row, make_patch_row
from service.models import MAX_CUSTOM_FIELDS, MAX_CUSTOM_FIELDS_BYTES, LeadPatch, NewLead
from service.request_keys import RequestKey
from service.wakeups import Wakeups

HOLD_S = 1.0
"""How long a request waits for what another transaction holds: the lock_timeout of its pool."""
SLOW_READ_S, SLOW_WRITE_S = 0.01, 0.05
"""A statement that takes longer is no reason for the next batch to wait."""
READ_CROWD = 24
"""So many reads go in two batches; a batch costs as much as three of them, so fewer are not worth
dividing."""
KEPT_APART_S = 10 * HOLD_S
WRITE_TRIES = 3
"""What another transaction writes at the same moment, an e-mail or a key, is seen next time."""


LeadKey: TypeAlias = tuple[int, bool, str, int]
"""tenant, live, id, the version that the caller has whole or 0"""


class LeadStore:
    """The leads of all tenants, as one process reads and writes them."""

    def __init__(self, pool: Pool, wakeups: Wakeups, late_after_s: float = float("inf")) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._inserts: Batcher[LeadRow, Shown] = Batcher(
            self._insert_many, late_after_s=late_after_s, next_lane_after_s=SLOW_WRITE_S
        )
        self._reads: Batcher[LeadKey, Detail | None] = Batcher(
            self._get_many, late_after_s=late_after_s, next_lane_after_s=SLOW_READ_S,
            halve_from=READ_CROWD,
        )  # fmt: skip
        # One patch of a lead at a time, in order of arrival: a statement cannot change it twice.
        self._updates: Batcher[PatchRow, Shown] = Batcher(
            self._update_many,
            alone=_name_lead,
            late_after_s=late_after_s,
            next_lane_after_s=SLOW_WRITE_S,
        )
        # Those whose lead another transaction holds, apart, so that no neighbour waits with them.
        self._late_updates: Batcher[PatchRow, Shown] = Batcher(
            self._update_many_held, alone=_name_lead, late_after_s=late_after_s + HOLD_S
        )
        self._held: dict[Hashable, float] = {}
        """Such leads, and until when patches that follow go the same way, behind the others."""

    async def capture(
        self, principal: Principal, new: NewLead, key: RequestKey | None = None
    ) -> Shown:
        """Creates a lead. Raises Conflict if the e-mail is taken; KeptAnswer or KeyReused."""
        return await self._inserts.submit(make_lead_row(principal, new, key))

    async def get(self, principal: Principal, lead_id: str, known_version: int = 0) -> Detail:
        """The detail of a lead. Raises NotFound."""
        found = await self._reads.submit(
            (principal.tenant_id, principal.live, lead_id, known_version)
        )
        if found is None:
            raise no_lead(lead_id)
        return found

    async def update(
        self,
        principal: Principal,
        lead_id: str,
        patch: LeadPatch,
        expected: Versions = None,
        key: RequestKey | None = None,
    ) -> Shown:
        """Changes what the patch names, if the lead is at an expected version.

        Raises NotFound, PreconditionFailed, Conflict, InvalidRequest if customFields would grow
        too large; KeptAnswer or KeyReused.
        """
        row = make_patch_row(principal, lead_id, patch, expected, key)
        try:
            return await self._updates.submit(row)
        except HeldError:
            return await self._late_updates.submit(row)

    async def delete(self, principal: Principal, lead_id: str, expected: Versions = None) -> None:
        """Removes a lead. Raises NotFound, PreconditionFailed."""
        gone = await self._pool.fetchval(
            sql.lead_delete, principal.tenant_id, principal.live, lead_id, principal.key_id,
            make_event_id(), expected,
        )  # fmt: skip
        if gone is None:
            raise no_lead(lead_id)
        if not gone:
            raise stale()
        self._wakeups.notify("event")

    async def _get_many(self, keys: list[LeadKey]) -> Sequence[Detail | None]:
        columns = zip(*set(keys), strict=True)
        rows = await self._pool.fetch(sql.lead_get_many, *columns)
        found = {tuple(row[:4]): make_detail(*row[4:]) for row in rows}
        return [found.get(key) for key in keys]

    async def _insert_many(self, rows: list[LeadRow]) -> Sequence[Shown | Exception]:
        outcomes = await self._insert_once(rows)
        for _ in range(WRITE_TRIES - 1):
            freed = [row for row in rows if isinstance(outcomes[row.id], Unavailable)]
            if not freed:
                break
            try:
                outcomes |= await self._insert_once(freed)
            except Exception:  # noqa: BLE001  # what is written stays written; these may come again
                break
        return [outcomes[row.id] for row in rows]

    async def _insert_once(self, rows: list[LeadRow]) -> dict[str, Shown | Exception]:
        """By id. Unavailable: the address is free again by now."""
        found = await self._write(sql.lead_insert_many, rows)
        if any(record["written"] for record in found):
            self._wakeups.notify("event")
        outcomes: dict[str, Shown | Exception] = {}
        refused = {row.id: row for row in rows}
        for record in found:
            row = refused.pop(record["id"])
            outcomes[row.id] = make_shown(record) if record["written"] else make_kept(record, row)
        if refused:
            outcomes |= await self._explain_many(list(refused.values()))
        return outcomes

    async def _update_many(self, rows: list[PatchRow]) -> Sequence[Shown | Exception]:
        now = time.monotonic()
        self._held = {lead: until for lead, until in self._held.items() if until > now}
        free = [row for row in rows if _name_lead(row) not in self._held]
        outcomes = await self._update_once(free, wait=False)
        results = [outcomes.get(row.event_id) or HeldError() for row in rows]
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, HeldError):
                self._held[_name_lead(row)] = now + KEPT_APART_S
        return results

    async def _update_many_held(self, rows: list[PatchRow]) -> Sequence[Shown | Exception]:
        try:
            outcomes = await self._update_once(rows, wait=True)
        except asyncpg.LockNotAvailableError:
            if len(rows) > 1:  # the Batcher finds out which
                raise
            return [held_too_long(rows[0].id)]
        return [outcomes[row.event_id] for row in rows]

    async def _update_once(
        self, rows: list[PatchRow], *, wait: bool
    ) -> dict[str, Shown | Exception]:
        """By the ids of their events. HeldError: not waited for."""
        if not rows:
            return {}
        for place, row in enumerate(rows):
            row.place = place
        found = await self._write(
            sql.lead_update_many, rows, MAX_CUSTOM_FIELDS_BYTES, MAX_CUSTOM_FIELDS, wait
        )
        if any(record["outcome"] == "changed" for record in found):
            self._wakeups.notify("event")
        outcomes: dict[str, Shown | Exception] = {row.event_id: no_lead(row.id) for row in rows}
        for record in found:
            row = rows[record["place"]]
            outcomes[row.event_id] = judge_patch(record, row)
        return outcomes

    async def _write(
        self, statement: str, rows: Sequence[LeadRow | PatchRow], *limits: int
    ) -> list[asyncpg.Record]:
        """Runs the statement; once more where another transaction has just taken e-mail or key."""
        document = msgspec.json.encode(rows).decode()
        for _ in range(WRITE_TRIES):
            try:
                return await self._pool.fetch(statement, document, *limits)
            except asyncpg.UniqueViolationError:  # nothing was written
                if len(rows) > 1:  # the Batcher finds out which
                    raise
        raise Unavailable("This e-mail address changes hands too fast; try again.")

    async def _explain_many(self, rows: list[LeadRow]) -> dict[str, Shown | Exception]:
        """Why each row was refused. Never raises: what was written beside them stays written."""
        wanted = [row.tenant_id for row in rows], [row.live for row in rows]
        try:
            answers = await self._pool.fetch(
                sql.idempotent_answer_get_many, *wanted, [row.key for row in rows]
            )
            holders = await self._pool.fetch(
                sql.lead_find_many_by_email, *wanted, [row.email_key for row in rows]
            )
        except Exception as error:  # noqa: BLE001  # the refusal stands, only its reason is lost
            return {row.id: error for row in rows}
        # The same request may have been at work elsewhere: then its answer is there by now.
        kept = {(a["tenant_id"], a["live"], a["key"].hex): a for a in answers}
        ids = {(h["tenant_id"], h["live"], h["email_key"]): h["id"] for h in holders}
        outcomes: dict[str, Shown | Exception] = {}
        for row in rows:
            answer = kept.get((row.tenant_id, row.live, row.key))
            holder = ids.get((row.tenant_id, row.live, row.email_key))
            outcomes[row.id] = make_kept(answer, row) if answer else email_taken(row.email, holder)
        return outcomes


def _name_lead(row: PatchRow) -> Hashable:
    return row.tenant_id, row.live, row.id
