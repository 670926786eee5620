"""The query parameters of a list of leads, its sorts, and the bounds of its ranges."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from service.errors import Fault
from service.leads.listing.statements import Column
from service.leads.models import (
    MAX_CUSTOM_FIELDS_BYTES,
    CustomFieldName,
    Source,
    Status,
    check_email,
)
from service.pagination.cursor import ID, SMALLINT, TIME, CursorCodec, NextCursor
from service.pagination.pages import Limit, Page
from service.validation.field_types import Check, Input, check_moment, parse_moment

EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 30, tzinfo=UTC)
BOUNDS: dict[Column, tuple[str, str]] = {
    "created_at": ("created_after", "created_before"),
    "updated_at": ("updated_after", "updated_before"),
    "score": ("min_score", "max_score"),
}


class Sort(msgspec.Struct, frozen=True):
    """The column of a sortBy, and the codec of its cursors (the column's value, the lead's id)."""

    column: Column
    cursors: CursorCodec


SORTS = {
    "createdAt": Sort("created_at", CursorCodec(TIME, ID)),
    "updatedAt": Sort("updated_at", CursorCodec(TIME, ID)),
    "score": Sort("score", CursorCodec(SMALLINT, ID)),
}


MomentBound = Annotated[
    str,
    Meta(
        description="An ISO 8601 date (00:00 UTC) or time (UTC without a zone); the bound itself "
        "is left out.",
        extra_json_schema={"format": "date-time"},
    ),
]
ScoreBound = Annotated[int, Meta(ge=0, le=100, description="Inclusive.")]


def check_span(query: "ListQuery") -> Iterator[Fault]:
    """Checks parameters together: refuses empty ranges, and cursor with page."""
    for after, before in (("created_after", "created_before"), ("updated_after", "updated_before")):
        low, high = getattr(query, after), getattr(query, before)
        if low and high and parse_moment(low) >= parse_moment(high):
            name = after.split("_")[0]
            message = f"{name}After must be before {name}Before."
            yield Fault(f"{name}After", "impossible_range", message)
    least, most = query.min_score, query.max_score
    if least is not None and most is not None and least > most:
        yield Fault("minScore", "impossible_range", "minScore must not be above maxScore.")
    if query.cursor is not None and query.page is not None:
        yield Fault("cursor", "invalid_value", "cursor and page exclude each other: send one.")


class ListQuery(Input):
    """The query of GET /v1/leads."""

    checks: ClassVar[Mapping[str, Check]] = {
        "created_after": check_moment("createdAfter"),
        "created_before": check_moment("createdBefore"),
        "updated_after": check_moment("updatedAfter"),
        "updated_before": check_moment("updatedBefore"),
        "email": check_email,
        "": check_span,
    }

    page: Page | None = None
    limit: Limit = 25
    cursor: NextCursor | None = None
    status: Annotated[Status, Meta(description="Only leads of this status.")] | None = None
    source: Annotated[Source, Meta(description="Only leads from this source.")] | None = None
    sort_by: Annotated[
        Literal["createdAt", "updatedAt", "score"],
        Meta(description="The sort field; equal leads are sorted by id."),
    ] = "createdAt"
    sort_order: Annotated[Literal["asc", "desc"], Meta(description="Ascending or descending.")] = (
        "desc"
    )
    created_after: MomentBound | None = None
    created_before: MomentBound | None = None
    updated_after: MomentBound | None = None
    updated_before: MomentBound | None = None
    tag: Annotated[str, Meta(max_length=64, description="Only leads with this tag.")] | None = None
    assigned_to: (
        Annotated[str, Meta(max_length=200, description="Only leads of this assignee.")] | None
    ) = None
    email: (
        Annotated[str, Meta(max_length=254, description="Only the lead with this address.")] | None
    ) = None
    min_score: ScoreBound | None = None
    max_score: ScoreBound | None = None
    custom_fields: Annotated[
        dict[CustomFieldName, Annotated[str, Meta(max_length=MAX_CUSTOM_FIELDS_BYTES)]],
        Meta(max_length=10, description="customFields[key]=value: only leads with this value."),
    ] = msgspec.field(default_factory=dict)


def has_status_or_source(query: ListQuery) -> bool:
    """Whether the list has a filter by status or source."""
    return query.status is not None or query.source is not None


def has_range(query: ListQuery, column: Column) -> bool:
    """Whether the list has a filter by a range of the column."""
    return any(getattr(query, name) is not None for name in BOUNDS[column])


def make_bounds(query: ListQuery, column: Column) -> tuple[Any, Any]:
    """The exclusive bounds of a column; without a filter, bounds that exclude no lead."""
    least, greatest = (getattr(query, name) for name in BOUNDS[column])
    if column == "score":
        return (-1 if least is None else least - 1), (101 if greatest is None else greatest + 1)
    return (
        EARLIEST if least is None else parse_moment(least),
        LATEST if greatest is None else parse_moment(greatest),
    )
