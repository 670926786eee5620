"""Leads as clients send and receive them. The OpenAPI document is made from these structs.

PostgreSQL builds the responses (`lead_json`). `Lead`, `LeadDetail` and `TimelineEntry` describe
them; a test compares their fields with the row types in the database.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from email_validator import EmailNotValidError
from msgspec import UNSET, Meta, UnsetType

from service.errors import Fault
from service.leads.email_keys import explain_invalid, make_email_key
from service.leads.phone_numbers import check_phone
from service.pagination.pages import Pagination
from service.validation.bounds import MAX_BYTES
from service.validation.characters import is_blank
from service.validation.field_types import ApiStruct, Check, Input, Moment

Status = Literal["new", "qualified", "contacted", "converted", "lost"]
Source = Literal["chat", "api", "import", "form"]
Email = Annotated[str, Meta(min_length=1, max_length=254, extra_json_schema={"format": "email"})]
ShortText = Annotated[str, Meta(max_length=200)]  # also in CHECK constraints of the table lead
Phone = Annotated[str, Meta(max_length=50)]
Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=50)]
MAX_CUSTOM_FIELDS = 100
MAX_CUSTOM_FIELDS_BYTES = 16 * 1024
_HUGE_INTEGER = b"0" * (sys.float_info.max_10_exp + 1)
"""309 zeros. An integer beyond the range of a double has at least 309 digits, and _TO_ZEROS turns
each of them into 0."""
_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
CustomFieldName = Annotated[str, Meta(min_length=1, max_length=64)]
CustomFields = Annotated[
    dict[CustomFieldName, Any],
    Meta(max_length=MAX_CUSTOM_FIELDS, extra={MAX_BYTES: MAX_CUSTOM_FIELDS_BYTES}),
]


class Lead(ApiStruct):
    """A lead in lists, and in the responses to create and update."""

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


class TimelineEntry(ApiStruct):
    """An event of a lead, in a sentence."""

    id: str
    type: str
    at: Moment
    summary: str
    actor: str


class LeadDetail(ApiStruct):
    """A lead with the summary of its conversations and the newest 20 entries of its timeline."""

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


class LeadPage(ApiStruct):
    """A page of a list of leads."""

    data: list[Lead]
    pagination: Pagination


def check_email(email: str) -> Iterable[Fault]:
    """Checks the syntax; sends no DNS query."""
    try:
        make_email_key(email)
    except EmailNotValidError:
        message = f"email is not an e-mail address: {explain_invalid(email)}."
        return (Fault("email", "invalid_email", message),)
    return ()


def check_custom_fields(fields: dict[str, Any]) -> Iterable[Fault]:
    """Checks the size, at most 16 KiB as JSON, and that all numbers are finite as doubles."""
    text = msgspec.json.encode(fields)
    if len(text) > MAX_CUSTOM_FIELDS_BYTES:
        message = (
            f"customFields takes {len(text)} bytes as JSON; {MAX_CUSTOM_FIELDS_BYTES} are allowed."
        )
        return (Fault("customFields", "too_long", message),)
    if len(text) < len(_HUGE_INTEGER) or _HUGE_INTEGER not in text.translate(_TO_ZEROS):
        return ()
    huge = (name for name, value in fields.items() if _has_huge_integer(value))
    return [_make_huge_fault(name) for name in huge]


def _has_huge_integer(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return any(map(_has_huge_integer, value))
    return isinstance(value, int) and abs(value) > sys.float_info.max


def _make_huge_fault(name: str) -> Fault:
    message = f"customFields.{name} has a number beyond ±1.8e308, the range of a double."
    return Fault("customFields", "out_of_range", message)


_OPTIONAL_TEXTS = ("name", "company", "title", "phone", "assigned_to")
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


class _LeadInput(Input):
    """What a client sends of a lead: a blank optional text means null, as forms send it."""

    checks: ClassVar[Mapping[str, Check]] = {
        "email": check_email,
        "phone": check_phone,
        "custom_fields": check_custom_fields,
    }
    read_only: ClassVar[frozenset[str]] = _LEAD_READ_ONLY

    def __post_init__(self) -> None:
        for name in _OPTIONAL_TEXTS:
            text = getattr(self, name)
            if isinstance(text, str) and is_blank(text):
                setattr(self, name, None)


class NewLead(_LeadInput):
    """The body of POST /v1/leads."""

    email: Email
    name: ShortText | None = None
    company: ShortText | None = None
    title: ShortText | None = None
    phone: Phone | None = None
    status: Status = "new"
    source: Source = "api"
    tags: Tags = msgspec.field(default_factory=list)
    custom_fields: CustomFields = msgspec.field(default_factory=dict)
    assigned_to: ShortText | None = None


class LeadPatch(_LeadInput):
    """The body of PATCH /v1/leads/{id}: null clears a field, an absent one is kept.

    `customFields` are merged by name, one level deep: an object within replaces the one before.
    """

    email: Email | UnsetType = UNSET
    name: ShortText | UnsetType | None = UNSET
    company: ShortText | UnsetType | None = UNSET
    title: ShortText | UnsetType | None = UNSET
    phone: Phone | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    source: Source | UnsetType = UNSET
    tags: Tags | UnsetType | None = UNSET
    custom_fields: CustomFields | UnsetType | None = UNSET
    assigned_to: ShortText | UnsetType | None = UNSET
