"""Leads on their way into the database: what the statements of sql/lead.sql take."""

from typing import Any

import msgspec

from service.auth import Principal
from service.etags import Versions
from service.ids import make_id
from service.leads.emails import make_email_key
from service.models import LeadPatch, NewLead
from service.request_keys import RequestKey


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
    key: str | None
    request: str | None


class PatchRow(msgspec.Struct):
    """A patch of one lead, with the events it may bring."""

    tenant_id: int
    live: bool
    id: str
    patch: dict[str, Any]
    """Under the names of columns."""
    custom_fields: dict[str, Any] | None
    """Merged into those there are; null deletes a key."""
    clears_fields: bool
    expected: Versions
    actor: str
    event_id: str
    became_event_id: str
    key: str | None
    request: str | None
    place: int = 0
    """In its batch."""


def make_lead_row(principal: Principal, new: NewLead, key: RequestKey | None) -> LeadRow:
    return LeadRow(
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
        key=key.key if key else None,
        request=key.request if key else None,
    )


def make_patch_row(
    principal: Principal, lead_id: str, patch: LeadPatch, expected: Versions,
    key: RequestKey | None,
) -> PatchRow:  # fmt: skip
    """Null clears: tags to [], customFields by deleting every key."""
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
    return PatchRow(
        tenant_id=principal.tenant_id,
        live=principal.live,
        id=lead_id,
        patch=columns,
        custom_fields=fields if isinstance(fields, dict) else None,
        clears_fields=fields is None,
        expected=expected,
        actor=principal.key_id,
        event_id=make_event_id(),
        became_event_id=make_event_id(),
        key=key.key if key else None,
        request=key.request if key else None,
    )


def make_event_id() -> str:
    """`evt_` and a ULID; no dot, as Standard Webhooks asks of an id."""
    return make_id("evt")
