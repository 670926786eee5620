"""The rows that the statements of sql/lead.sql take, one per write of a batch."""

from typing import Any

import msgspec

from service.access.authentication import Principal
from service.idempotency_keys import IdempotencyKey
from service.ids import make_id
from service.leads.email_keys import make_email_key
from service.leads.etags import Versions
from service.leads.models import LeadPatch, NewLead
from service.leads.phone_numbers import make_e164


class LeadRow(msgspec.Struct, kw_only=True):
    """A new lead, with the id and actor of its event. The fields are named like the columns."""

    tenant_id: int
    live: bool
    id: str
    email: str
    email_key: str
    name: str | None
    company: str | None
    title: str | None
    phone: str | None
    phone_e164: str | None
    status: str
    source: str
    tags: list[str]
    custom_fields: dict[str, Any]
    assigned_to: str | None
    event_id: str
    actor: str
    key: str | None
    request: str | None


class PatchRow(msgspec.Struct, kw_only=True):
    """A patch of one lead, with the ids of the events that it may cause."""

    tenant_id: int
    live: bool
    id: str
    patch: dict[str, Any]
    """The new values by column name."""
    custom_fields: dict[str, Any] | None
    """Merged into the stored custom fields; a null value deletes its key."""
    clears_fields: bool
    expected: Versions
    actor: str
    event_id: str
    status_event_id: str
    key: str | None
    request: str | None
    ordinal: int = 0
    """The row's index in its batch, set when the batch is sent."""


def make_lead_row(principal: Principal, new: NewLead, key: IdempotencyKey | None) -> LeadRow:
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
        phone_e164=make_e164(new.phone, principal.phone_region),
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
    principal: Principal,
    lead_id: str,
    patch: LeadPatch,
    expected: Versions,
    key: IdempotencyKey | None,
) -> PatchRow:
    """Null clears a field: tags become [], customFields lose every key."""
    columns: dict[str, Any] = {
        name: value
        for name, value in msgspec.structs.asdict(patch).items()
        if value is not msgspec.UNSET and name != "custom_fields"
    }
    if isinstance(patch.email, str):
        columns["email"] = patch.email.strip()
        columns["email_key"] = make_email_key(patch.email)
    if patch.phone is not msgspec.UNSET:
        columns["phone_e164"] = make_e164(patch.phone, principal.phone_region)
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
        status_event_id=make_event_id(),
        key=key.key if key else None,
        request=key.request if key else None,
    )


def make_event_id() -> str:
    """`evt_` and a ULID. It has no dot, because Standard Webhooks forbids dots in ids."""
    return make_id("evt")
