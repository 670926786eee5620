"""Reads and writes of single leads: batched with those of other requests, each in one statement.

Every write logs its event in the statement that makes it; see sql/lead.sql.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

import sql
from service.auth import Principal
from service.batching import Batcher
from service.db import Pool
from service.emails import make_email_key
from service.errors import Conflict, Fault, InvalidRequest, NotFound, Unavailable
from service.ids import make_id
from service.models import MAX_CUSTOM_FIELDS, MAX_CUSTOM_FIELDS_BYTES, LeadPatch, NewLead
from service.wakeups import Wakeups

WRITE_TRIES = 3
"""An e-mail may be freed and taken again between a conflict and the look for its holder."""


class LeadRow(msgspec.Struct):
    """A new lead under the names of its columns, with its event."""

    tenant_id: int
    live: bool
    id: str
    email: str
    email_key: str
    name: str | None
    company: str | None
    title: str | None
    phone: str | None
    status: str
    source: str
    tags: list[str]
    custom_fields: dict[str, Any]
    assigned_to: str | None
    event_id: str
    actor: str


LeadKey = tuple[int, bool, str]
"""tenant, live, id"""


class LeadStore:
    """The leads of all tenants, as one process reads and writes them."""

    def __init__(self, pool: Pool, wakeups: Wakeups) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._inserts: Batcher[LeadRow, bytes] = Batcher(self._insert_many)
        self._reads: Batcher[LeadKey, bytes | None] = Batcher(self._get_many)

    async def capture(self, principal: Principal, new: NewLead) -> tuple[str, bytes]:
        """Creates a lead; its id and its JSON. Raises Conflict if the e-mail is taken."""
        row = LeadRow(
            tenant_id=principal.tenant_id,
            live=principal.live,
            id=make_id("lead"),
            email=new.email.strip(),
            email_key=make_email_key(new.email),
            name=new.name,
            company=new.company,
            title=new.title,
            phone=new.phone,
            status=new.status,
            source=new.source,
            tags=new.tags,
            custom_fields=new.custom_fields,
            assigned_to=new.assigned_to,
            event_id=make_event_id(),
            actor=principal.key_id,
        )
        return row.id, await self._inserts.submit(row)

    async def get(self, principal: Principal, lead_id: str) -> bytes:
        """The detail of a lead as JSON. Raises NotFound."""
        body = await self._reads.submit((principal.tenant_id, principal.live, lead_id))
        if body is None:
            raise NotFound(f"There is no lead with the id {lead_id}.")
        return body

    async def update(self, principal: Principal, lead_id: str, patch: LeadPatch) -> bytes:
        """Changes what the patch names; the row as JSON.

        Raises NotFound, Conflict, or InvalidRequest if customFields would grow too large.
        """
        columns, custom_fields = encode_patch(patch)
        for _ in range(WRITE_TRIES):
            try:
                row = await self._pool.fetchrow(
                    sql.lead_update, principal.tenant_id, principal.live, lead_id, columns,
                    custom_fields, principal.key_id, make_event_id(), make_event_id(),
                    MAX_CUSTOM_FIELDS_BYTES, MAX_CUSTOM_FIELDS,
                )  # fmt: skip
            except asyncpg.UniqueViolationError:  # taken since the statement looked: look again
                continue
            if row is None:
                raise NotFound(f"There is no lead with the id {lead_id}.")
            if row["existing_lead_id"] is not None:
                raise email_taken(str(patch.email), row["existing_lead_id"])
            if row["overflows"]:
                raise custom_fields_full()
            if row["changed"]:
                self._wakeups.notify("event")
            return str(row["body"]).encode()
        raise Unavailable("This e-mail address changes hands too fast; try again.")

    async def delete(self, principal: Principal, lead_id: str) -> None:
        """Removes a lead. Raises NotFound."""
        gone = await self._pool.fetchval(
            sql.lead_delete, principal.tenant_id, principal.live, lead_id, principal.key_id,
            make_event_id(),
        )  # fmt: skip
        if gone is None:
            raise NotFound(f"There is no lead with the id {lead_id}.")
        self._wakeups.notify("event")

    async def _insert_many(self, rows: list[LeadRow]) -> Sequence[bytes | Exception]:
        document = msgspec.json.encode(rows).decode()
        made = {
            record["id"]: str(record["body"]).encode()
            for record in await self._pool.fetch(sql.lead_insert_many, document)
        }
        if made:
            self._wakeups.notify("event")
        refused = [row for row in rows if row.id not in made]
        errors = await self._explain_many(refused) if refused else {}
        return [made[row.id] if row.id in made else errors[row.id] for row in rows]

    async def _explain_many(self, rows: list[LeadRow]) -> dict[str, Exception]:
        """Why each row was refused. Never raises: what was written beside them stays written."""
        try:
            holders = await self._pool.fetch(
                sql.lead_find_many_by_email,
                [row.tenant_id for row in rows],
                [row.live for row in rows],
                [row.email_key for row in rows],
            )
        except Exception as error:  # noqa: BLE001  # the refusal stands, only its reason is lost
            return {row.id: error for row in rows}
        ids = {(h["tenant_id"], h["live"], h["email_key"]): h["id"] for h in holders}
        return {
            row.id: email_taken(row.email, ids.get((row.tenant_id, row.live, row.email_key)))
            for row in rows
        }

    async def _get_many(self, keys: list[LeadKey]) -> Sequence[bytes | None]:
        tenants, lives, ids = zip(*set(keys), strict=True)
        records = await self._pool.fetch(sql.lead_get_many, tenants, lives, ids)
        found = {
            (record["tenant_id"], record["live"], record["id"]): str(record["body"]).encode()
            for record in records
        }
        return [found.get(key) for key in keys]


def make_event_id() -> str:
    """`evt_` and a ULID; no dot, as Standard Webhooks asks of an id."""
    return make_id("evt")


def encode_patch(patch: LeadPatch) -> tuple[str, str | None]:
    """A patch as JSON under column names, and its merge patch of custom_fields or None.

    Null clears: tags to [], custom_fields by deleting every key.
    """
    columns: dict[str, Any] = {
        name: value
        for name, value in msgspec.structs.asdict(patch).items()
        if value is not msgspec.UNSET and name != "custom_fields"
    }
    if isinstance(patch.email, str):
        columns["email"] = patch.email.strip()
        columns["email_key"] = make_email_key(patch.email)
    if patch.tags is None:
        columns["tags"] = []
    fields = patch.custom_fields
    custom_fields = None if fields is msgspec.UNSET else msgspec.json.encode(fields).decode()
    return msgspec.json.encode(columns).decode(), custom_fields


def email_taken(email: str, existing_lead_id: str | None) -> Exception:
    """409 that names the holder; 503 if there is none any more, so that a retry succeeds."""
    if existing_lead_id is None:
        return Unavailable("This e-mail address was freed just now; try again.")
    return Conflict(
        f"A lead with the e-mail address {email} already exists.",
        existing_lead_id=existing_lead_id,
    )


def custom_fields_full() -> InvalidRequest:
    """400: each patch may be small, what they add up to may not be large."""
    message = (
        f"customFields may have {MAX_CUSTOM_FIELDS} keys and {MAX_CUSTOM_FIELDS_BYTES} bytes as "
        "JSON; with this patch they would have more."
    )
    return InvalidRequest(message, details=[Fault("customFields", "too_long", message)])
