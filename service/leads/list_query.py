"""What a list of leads can be asked for: its query, its sorts, the bounds of its columns."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from service.cursor import NextCursor
from service.errors import Fault
from service.leads.list_statements import Column
from service.models import (
    Input,
    Limit,
    Page,
    Source,
    Status,
    check_email,
    check_moment,
    parse_moment,
)
from service.validation import Check

EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 30, tzinfo=UTC)
BOUNDS: dict[Column, tuple[str, str]] = {
    "created_at": ("created_after", "created_before"),
    "updated_at": ("updated_after", "updated_before"),
    "score": ("min_score", "max_score"),
}


class Sort(msgspec.Struct, frozen=True):
    """What is behind a sortBy: the column, how a cursor writes its value, and how it reads it."""

    column: Column
    show: Callable[[Any], str]
    parse: Callable[[str], Any]


SORTS = {
    "createdAt": Sort("created_at", datetime.isoformat, parse_moment),
    "updatedAt": Sort("updated_at", datetime.isoformat, parse_moment),
    "score": Sort("score", str, int),
}


MomentBound = Annotated[
    str,
    Meta(
        description="An ISO 8601 date (00:00 UTC) or time; the bound itself is left out.",
        extra_json_schema={"format": "date-time"},
    ),
]
ScoreBound = Annotated[int, Meta(ge=0, le=100, description="The bound itself is let in.")]


def check_span(query: "ListQuery") -> Iterator[Fault]:
    """What the parameters say together: spans that hold nothing, two ways to page."""
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
        Meta(description="What to sort by; leads alike in it are sorted by id."),
    ] = "createdAt"
    sort_order: Annotated[Literal["asc", "desc"], Meta(description="Which way.")] = "desc"
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
        dict[str, str],
        Meta(max_length=10, description="customFields[key]=value: only leads where it is so."),
    ] = msgspec.field(default_factory=dict)


def has_kind(query: ListQuery) -> bool:
    """Whether status or source is asked for."""
    return query.status is not None or query.source is not None


def has_range(query: ListQuery, column: Column) -> bool:
    """Whether a range of the column is asked for."""
    return any(getattr(query, name) is not None for name in BOUNDS[column])


def make_bounds(query: ListQuery, column: Column) -> tuple[Any, Any]:
    """What a column lies between, both ends left out; if nothing is asked for, what all do."""
    least, greatest = (getattr(query, name) for name in BOUNDS[column])
    if column == "score":
        return (-1 if least is None else least - 1), (101 if greatest is None else greatest + 1)
    return (
        EARLIEST if least is None else parse_moment(least),
        LATEST if greatest is None else parse_moment(greatest),
    )
