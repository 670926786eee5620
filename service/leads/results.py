"""Converts the rows of the lead statements to responses and refusals."""

from typing import TypeAlias

import asyncpg
import msgspec

from service.errors import (
    Conflict,
    Fault,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    Unavailable,
)
from service.idempotency_keys import KeyReused, StoredResponse
from service.leads.etags import make_etag
from service.leads.models import MAX_CUSTOM_FIELDS, MAX_CUSTOM_FIELDS_BYTES
from service.leads.rows import LeadRow, PatchRow


class LostRaceError(Unavailable):
    """Another transaction took or freed the e-mail address meanwhile; a retry may succeed."""


class LeadResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The response to creating or changing a lead: its JSON, and headers."""

    body: bytes
    etag: str
    location: str | None


WriteResponse: TypeAlias = LeadResponse | StoredResponse
"""The response to a write: its own, or the one stored for an earlier request with the same key."""


class LeadDetailResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A lead with its timeline, as JSON; no body if the client's copy is complete and current."""

    body: bytes | None
    etag: str


def make_lead_detail_response(
    edit_version: int, version: int, timeline_version: int, body: str | None
) -> LeadDetailResponse:
    if body is None:
        return LeadDetailResponse(body=None, etag=make_etag(edit_version, version, version))
    etag = make_etag(edit_version, version, timeline_version)
    return LeadDetailResponse(body=body.encode(), etag=etag)


def make_lead_response(record: asyncpg.Record) -> LeadResponse:
    return LeadResponse(
        body=record["body"].encode(), etag=record["etag"], location=record.get("location")
    )


def make_stored_response(
    record: asyncpg.Record, row: LeadRow | PatchRow
) -> StoredResponse | KeyReused:
    if record["request"].hex != row.request:
        return KeyReused()
    return StoredResponse(
        status=record["status"],
        body=record["body"].encode(),
        location=record.get("location"),
        etag=record["etag"],
    )


def make_patch_result(record: asyncpg.Record, row: PatchRow) -> WriteResponse | Exception | None:
    """The result of one patch; None if another transaction has locked the lead."""
    match record["outcome"]:
        case "locked":
            return None
        case "replayed":
            return make_stored_response(record, row)
        case "stale":
            return version_changed()
        case "taken":
            return email_taken(str(row.patch["email"]), record["holder"])
        case "full":
            return custom_fields_full()
        case _:
            return make_lead_response(record)


def no_lead(lead_id: str) -> NotFound:
    return NotFound(f"There is no lead with the id {lead_id}.")


def lead_locked(lead_id: str) -> Unavailable:
    return Unavailable(f"Another transaction holds the lead {lead_id}; try again shortly.")


def version_changed() -> PreconditionFailed:
    return PreconditionFailed(
        "A client has changed the lead since the version that If-Match names; read it again."
    )


def email_taken(email: str, existing_lead_id: str | None) -> Exception:
    """409 that names the lead with this address; 503 if that lead has just been deleted."""
    if existing_lead_id is None:
        return LostRaceError("This e-mail address was freed just now; try again.")
    return Conflict(
        f"A lead with the e-mail address {email} already exists.",
        existing_lead_id=existing_lead_id,
    )


def custom_fields_full() -> InvalidRequest:
    """400: the patch is small enough alone, but with the stored keys customFields is too large."""
    message = (
        f"customFields may have {MAX_CUSTOM_FIELDS} keys and {MAX_CUSTOM_FIELDS_BYTES} bytes as "
        "JSON; with this patch they would have more."
    )
    return InvalidRequest(message, details=[Fault("customFields", "too_long", message)])
