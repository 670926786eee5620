"""Reads and writes of single leads, batched with those of other requests into one statement.

The statement of a write also logs its event and, if the request came with an Idempotency-Key,
stores the response; see sql/lead.sql.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TypeAlias

import asyncpg
import msgspec

import sql
from service.access.authentication import Principal
from service.database.batching import Batcher
from service.database.connect import Pool
from service.events.wake_ups import Wakeups
from service.idempotency_keys import IdempotencyKey
from service.leads.etags import Versions
from service.leads.lost_races import retry_lost_races
from service.leads.models import MAX_CUSTOM_FIELDS, MAX_CUSTOM_FIELDS_BYTES, LeadPatch, NewLead
from service.leads.results import (
    LeadDetailResponse,
    WriteResponse,
    email_taken,
    lead_locked,
    make_lead_detail_response,
    make_lead_response,
    make_patch_result,
    make_stored_response,
    no_lead,
    version_changed,
)
from service.leads.rows import LeadRow, PatchRow, make_event_id, make_lead_row, make_patch_row

LOCK_WAIT_S = 1.0
"""How long a request waits for a locked row: the lock_timeout of the pool."""
SLOW_READ_S, SLOW_WRITE_S = 0.01, 0.05
"""While a statement runs for longer than this, a second batch may start beside it."""
HALVE_READS_FROM = 24
"""If at least this many reads wait, a batch takes half of them. One more batch costs as much as
three reads, so it is not worth dividing fewer reads."""
LOCKED_FOR_S = 10 * LOCK_WAIT_S

LeadKey: TypeAlias = tuple[int, bool, str]
"""tenant, live, id"""
Read: TypeAlias = tuple[int, bool, str, int]
"""tenant, live, id, the version of the client's complete copy or 0"""
InsertResults: TypeAlias = dict[str, WriteResponse | Exception]
"""The result of each row by the id of its event."""
UpdateResults: TypeAlias = dict[str, WriteResponse | Exception | None]
"""None: another transaction has locked the lead."""


class LeadStore:
    """The leads of all tenants, as one process reads and writes them."""

    def __init__(self, pool: Pool, wakeups: Wakeups, limit_s: float = float("inf")) -> None:
        self._pool = pool
        # One connection is left for reads, which are quick, when all writes are slow.
        self._writing = asyncio.Semaphore(max(1, pool.size - 1))
        self._wakeups = wakeups
        self._inserts: Batcher[LeadRow, WriteResponse] = Batcher(
            self._insert_many, limit_s=limit_s, next_lane_after_s=SLOW_WRITE_S
        )
        self._reads: Batcher[Read, LeadDetailResponse | None] = Batcher(
            self._get_many,
            limit_s=limit_s,
            next_lane_after_s=SLOW_READ_S,
            halve_from=HALVE_READS_FROM,
        )
        # Patches of one lead are sent one after the other: a statement changes a lead only once.
        self._updates: Batcher[PatchRow, WriteResponse | None] = Batcher(
            self._update_many,
            alone=_get_lead_key,
            limit_s=limit_s,
            next_lane_after_s=SLOW_WRITE_S,
        )
        # Patches of locked leads have batches of their own, so that no other patch waits with them.
        self._locked_updates: Batcher[PatchRow, WriteResponse | None] = Batcher(
            self._update_locked_many, alone=_get_lead_key, limit_s=limit_s + LOCK_WAIT_S
        )
        self._locked_until: dict[LeadKey, float] = {}
        """The time until which all patches of a locked lead go to `_locked_updates`, in order."""

    async def capture(
        self, principal: Principal, new: NewLead, key: IdempotencyKey | None = None
    ) -> WriteResponse:
        """Creates a lead. Raises Conflict if the e-mail address is taken, or KeyReused."""
        return await self._inserts.submit(make_lead_row(principal, new, key))

    async def get(
        self, principal: Principal, lead_id: str, known_version: int = 0
    ) -> LeadDetailResponse:
        """Returns the detail of a lead. Raises NotFound."""
        detail = await self._reads.submit(
            (principal.tenant_id, principal.live, lead_id, known_version)
        )
        if detail is None:
            raise no_lead(lead_id)
        return detail

    async def update(
        self,
        principal: Principal,
        lead_id: str,
        patch: LeadPatch,
        expected: Versions = None,
        key: IdempotencyKey | None = None,
    ) -> WriteResponse:
        """Changes the fields of the patch if the lead has an expected edit version.

        Raises NotFound, PreconditionFailed, Conflict if the e-mail address is taken, InvalidRequest
        if customFields would become too large, or KeyReused.
        """
        row = make_patch_row(principal, lead_id, patch, expected, key)
        response = await self._updates.submit(row)
        if response is None:
            response = await self._locked_updates.submit(row)
        if response is None:
            raise lead_locked(lead_id)
        return response

    async def delete(self, principal: Principal, lead_id: str, expected: Versions = None) -> None:
        """Deletes a lead. Raises NotFound, PreconditionFailed."""
        gone = await self._pool.fetchval(
            sql.lead_delete,
            principal.tenant_id,
            principal.live,
            lead_id,
            principal.key_id,
            make_event_id(),
            expected,
        )
        if gone is None:
            raise no_lead(lead_id)
        if not gone:
            raise version_changed()
        self._wakeups.notify("event")

    async def _get_many(self, reads: list[Read]) -> Sequence[LeadDetailResponse | None]:
        columns = zip(*set(reads), strict=True)
        rows = await self._pool.fetch(sql.lead_get_many, *columns)
        details = {tuple(row[:4]): make_lead_detail_response(*row[4:]) for row in rows}
        return [details.get(read) for read in reads]

    async def _insert_many(self, rows: list[LeadRow]) -> Sequence[WriteResponse | Exception]:
        results = await retry_lost_races(self._insert_once, rows)
        return [results[row.event_id] for row in rows]

    async def _insert_once(self, rows: list[LeadRow]) -> InsertResults:
        records = await self._write(sql.lead_insert_many, rows)
        if any(record["written"] for record in records):
            self._wakeups.notify("event")
        results: InsertResults = {}
        refused = {row.id: row for row in rows}
        for record in records:
            row = refused.pop(record["id"])
            results[row.event_id] = (
                make_lead_response(record)
                if record["written"]
                else make_stored_response(record, row)
            )
        if refused:
            results |= await self._explain_refusals(list(refused.values()))
        return results

    async def _update_many(
        self, rows: list[PatchRow]
    ) -> Sequence[WriteResponse | Exception | None]:
        now = time.monotonic()
        self._locked_until = {lead: at for lead, at in self._locked_until.items() if at > now}
        free = [row for row in rows if _get_lead_key(row) not in self._locked_until]
        results: UpdateResults = {}
        if free:
            results = await retry_lost_races(self._update_unlocked_once, free)
        for row in rows:
            if results.get(row.event_id) is None:
                self._locked_until[_get_lead_key(row)] = now + LOCKED_FOR_S
        return [results.get(row.event_id) for row in rows]

    async def _update_locked_many(
        self, rows: list[PatchRow]
    ) -> Sequence[WriteResponse | Exception | None]:
        try:
            results = await retry_lost_races(self._update_once, rows)
        except asyncpg.LockNotAvailableError:
            if len(rows) > 1:  # the Batcher divides the batch until one row is left
                raise
            return [None]
        return [results[row.event_id] for row in rows]

    async def _update_unlocked_once(self, rows: list[PatchRow]) -> UpdateResults:
        return await self._update_once(rows, wait=False)

    async def _update_once(self, rows: list[PatchRow], *, wait: bool = True) -> UpdateResults:
        for ordinal, row in enumerate(rows):
            row.ordinal = ordinal
        records = await self._write(
            sql.lead_update_many, rows, MAX_CUSTOM_FIELDS_BYTES, MAX_CUSTOM_FIELDS, wait
        )
        if any(record["outcome"] == "changed" for record in records):
            self._wakeups.notify("event")
        results: UpdateResults = {row.event_id: no_lead(row.id) for row in rows}
        for record in records:
            row = rows[record["ordinal"]]
            results[row.event_id] = make_patch_result(record, row)
        return results

    async def _write(
        self, statement: str, rows: Sequence[LeadRow | PatchRow], *limits: int
    ) -> list[asyncpg.Record]:
        document = msgspec.json.encode(rows).decode()
        async with self._writing:
            return await self._pool.fetch(statement, document, *limits)

    async def _explain_refusals(self, rows: list[LeadRow]) -> InsertResults:
        """Finds why each row was refused. Never raises: other rows of the batch were written."""
        owners = [row.tenant_id for row in rows], [row.live for row in rows]
        try:
            responses = await self._pool.fetch(
                sql.idempotent_response_get_many, *owners, [row.key for row in rows]
            )
            holders = await self._pool.fetch(
                sql.lead_find_many_by_email, *owners, [row.email_key for row in rows]
            )
        except Exception as error:  # noqa: BLE001  # the rows are refused all the same
            return {row.event_id: error for row in rows}
        # Another process may have handled the same request meanwhile, and stored its response.
        stored = {(r["tenant_id"], r["live"], r["key"].hex): r for r in responses}
        ids = {(h["tenant_id"], h["live"], h["email_key"]): h["id"] for h in holders}
        results: InsertResults = {}
        for row in rows:
            response = stored.get((row.tenant_id, row.live, row.key))
            holder = ids.get((row.tenant_id, row.live, row.email_key))
            results[row.event_id] = (
                make_stored_response(response, row) if response else email_taken(row.email, holder)
            )
        return results


def _get_lead_key(row: PatchRow) -> LeadKey:
    return row.tenant_id, row.live, row.id
