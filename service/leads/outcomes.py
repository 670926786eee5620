"""What becomes of a read or a write of a lead: from the database's rows to answers and refusals."""

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
from service.etags import make_etag
from service.leads.rows import LeadRow, PatchRow
from service.models import MAX_CUSTOM_FIELDS, MAX_CUSTOM_FIELDS_BYTES
from service.request_keys import KeptAnswer, KeyReused


class HeldError(Exception):
    """Another transaction has locked the lead; nothing was done."""


class Shown(msgspec.Struct, frozen=True):
    """A lead on its way out, as JSON."""

    body: bytes
    etag: str
    location: str | None = None


class Detail(msgspec.Struct, frozen=True):
    """A lead with its timeline, as JSON; no body where the caller has this version whole."""

    body: bytes | None
    etag: str


def make_detail(version: int, told: int, body: str | None) -> Detail:
    if body is None:
        return Detail(None, make_etag(version, version))
    return Detail(body.encode(), make_etag(version, told))


def make_shown(record: asyncpg.Record) -> Shown:
    return Shown(record["body"].encode(), record["etag"], record.get("location"))


def make_kept(record: asyncpg.Record, row: LeadRow | PatchRow) -> Exception:
    if record["request"].hex != row.request:
        return KeyReused()
    return KeptAnswer(
        record["status"], record["body"].encode(),
        location=record.get("location"), etag=record["etag"],
    )  # fmt: skip


def judge_patch(record: asyncpg.Record, row: PatchRow) -> Shown | Exception:
    match record["outcome"]:
        case "locked":
            return HeldError()
        case "answered":
            return make_kept(record, row)
        case "stale":
            return stale()
        case "taken":
            return email_taken(str(row.patch["email"]), record["holder"])
        case "full":
            return custom_fields_full()
        case _:
            return make_shown(record)


def no_lead(lead_id: str) -> NotFound:
    return NotFound(f"There is no lead with the id {lead_id}.")


def held_too_long(lead_id: str) -> Unavailable:
    return Unavailable(f"Another transaction holds the lead {lead_id}; try again shortly.")


def stale() -> PreconditionFailed:
    return PreconditionFailed(
        "The lead has changed since the version that If-Match names; read it again."
    )


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
