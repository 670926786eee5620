"""What goes over the wire and what comes in, as structs; the OpenAPI page is made from them.

Replies about leads are built by PostgreSQL (`lead_json`), so `Lead` and its kin are their
description: a test holds the two together.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from email_validator import EmailNotValidError
from msgspec import UNSET, Meta, UnsetType

from service.errors import Fault
from service.leads.emails import make_email_key
from service.validation import Check

Status = Literal["new", "qualified", "contacted", "converted", "lost"]
Source = Literal["chat", "api", "import", "form"]
Email = Annotated[str, Meta(min_length=1, max_length=254, extra_json_schema={"format": "email"})]
Line = Annotated[str, Meta(max_length=200)]
PHONE_PATTERN = r"^\+[0-9](?:[ ()./\-]*[0-9]){6,14}[ ()./\-]*$"  # E.164, parted
_PHONE = re.compile(PHONE_PATTERN)
Phone = Annotated[str, Meta(max_length=50, extra_json_schema={"pattern": PHONE_PATTERN})]
Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=50)]
MAX_CUSTOM_FIELDS = 100
MAX_CUSTOM_FIELDS_BYTES = 16 * 1024
CustomFields = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Any], Meta(max_length=MAX_CUSTOM_FIELDS)
]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Wire(msgspec.Struct, rename="camel", kw_only=True):
    """A struct whose fields are camelCase on the wire."""


class Input(Wire, forbid_unknown_fields=True):
    """A struct that comes from a client: unknown fields are faults."""

    checks: ClassVar[Mapping[str, Check]] = {}
    read_only: ClassVar[frozenset[str]] = frozenset()


class Lead(Wire):
    """A row of the list, and the answer to create and update."""

    id: str
    email: str
    name: str | None
    company: str | None
    title: str | None
    phone: str | None
    status: Status
    score: Annotated[int, Meta(ge=0, le=100)]
    source: Source
    tags: list[str]
    custom_fields: dict[str, Any]
    first_seen_at: Moment
    last_active_at: Moment
    created_at: Moment
    updated_at: Moment


class TimelineEntry(Wire):
    id: str
    type: str
    at: Moment
    summary: str
    actor: str


class LeadDetail(Wire):
    """One lead with what its conversations told, and the newest 20 entries of its timeline."""

    id: str
    email: str
    name: str | None
    company: str | None
    title: str | None
    phone: str | None
    status: Status
    score: Annotated[int, Meta(ge=0, le=100)]
    source: Source
    tags: list[str]
    custom_fields: dict[str, Any]
    conversation_count: int
    last_intent: str | None
    assigned_to: str | None
    first_seen_at: Moment
    last_active_at: Moment
    created_at: Moment
    updated_at: Moment
    conversation_summary: str | None
    timeline: list[TimelineEntry]


class Pagination(Wire, kw_only=True):
    """Where a page stands.

    By cursor it has no `page`, the last one has no `nextCursor`, and `totalEstimated` is there only
    if it is true.
    """

    page: int | UnsetType = UNSET
    limit: int
    total: int
    total_pages: int
    has_more: bool
    next_cursor: str | UnsetType = UNSET
    total_estimated: bool | UnsetType = UNSET


class LeadPage(Wire):
    data: list[Lead]
    pagination: Pagination


def check_email(email: str) -> Iterable[Fault]:
    """Syntax only: no look-up in the DNS."""
    try:
        make_email_key(email)
    except EmailNotValidError as error:
        return (Fault("email", "invalid_email", f"email is not an e-mail address: {error}"),)
    return ()


def check_phone(phone: str) -> Iterable[Fault]:
    """`+`, then 7 to 15 digits and separators; kept as sent."""
    if _PHONE.fullmatch(phone):
        return ()
    message = "phone must be + and 7 to 15 digits; spaces and ( ) . / - may part them."
    return (Fault("phone", "invalid_phone", message),)


def check_custom_fields(fields: dict[str, Any]) -> Iterable[Fault]:
    """16 KiB in all, as JSON."""
    size = len(msgspec.json.encode(fields))
    if size <= MAX_CUSTOM_FIELDS_BYTES:
        return ()
    message = f"customFields takes {size} bytes as JSON; {MAX_CUSTOM_FIELDS_BYTES} are allowed."
    return (Fault("customFields", "too_long", message),)


_LEAD_CHECKS: Mapping[str, Check] = {
    "email": check_email,
    "phone": check_phone,
    "custom_fields": check_custom_fields,
}
_LEAD_READ_ONLY = frozenset(field.encode_name for field in msgspec.structs.fields(LeadDetail)) - {
    "email",
    "name",
    "company",
    "title",
    "phone",
    "status",
    "source",
    "tags",
    "customFields",
    "assignedTo",
}


class NewLead(Input):
    """The body of POST /v1/leads."""

    checks = _LEAD_CHECKS
    read_only = _LEAD_READ_ONLY

    email: Email
    name: Line | None = None
    company: Line | None = None
    title: Line | None = None
    phone: Phone | None = None
    status: Status = "new"
    source: Source = "api"
    tags: Tags = msgspec.field(default_factory=list)
    custom_fields: CustomFields = msgspec.field(default_factory=dict)
    assigned_to: Line | None = None


class LeadPatch(Input):
    """The body of PATCH /v1/leads/{id}, read as RFC 7396: absent keeps, null clears."""

    checks = _LEAD_CHECKS
    read_only = _LEAD_READ_ONLY

    email: Email | UnsetType = UNSET
    name: Line | UnsetType | None = UNSET
    company: Line | UnsetType | None = UNSET
    title: Line | UnsetType | None = UNSET
    phone: Phone | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    source: Source | UnsetType = UNSET
    tags: Tags | UnsetType | None = UNSET
    custom_fields: CustomFields | UnsetType | None = UNSET
    assigned_to: Line | UnsetType | None = UNSET


Page = Annotated[
    int, Meta(ge=1, le=1_000_000_000, description="Which page, from 1; cursor leads further.")
]
Limit = Annotated[int, Meta(ge=1, le=100, description="How many results on a page.")]
Score = Annotated[int, Meta(ge=0, le=100)]


def check_moment(field: str) -> Check:
    """A check that a query value is an ISO 8601 date or time."""

    def check(text: str) -> Iterator[Fault]:
        try:
            parse_moment(text)
        except ValueError:
            message = f"{field} must be an ISO 8601 date or time such as 2026-04-05T15:08:42Z."
            yield Fault(field, "invalid_value", message)

    return check


def parse_moment(text: str) -> datetime:
    """An ISO 8601 date (00:00Z) or time (UTC if it names no zone); ValueError if it is neither."""
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error
