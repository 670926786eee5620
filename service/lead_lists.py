"""The list of leads: its query, its statements, its pages."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from service.auth import Principal
from service.cursor import NextCursor, Place, decode_cursor, encode_cursor
from service.db import Pool
from service.emails import make_email_key
from service.errors import Fault
from service.kinds import list_kinds
from service.list_statements import (
    Column,
    Filter,
    Finder,
    make_browse,
    make_gather,
    make_walk,
)
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
from service.pages import encode_page, make_pagination
from service.validation import Check
from sql.compose import Statement

MOST_GATHERED = 10_000
"""Matches that are sorted as a whole, some 10 ms; with more, the order is followed instead."""
MOST_LOOKED_AT = 5_000
"""Leads that are looked at in order for a page of such a list."""
ALL = 2**62
KEY_LENGTH = 64
"""Characters of a custom field's value that the index knows; see search_document."""
EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 30, tzinfo=UTC)
LAST_ID = "~"
"""Behind every id."""
BOUNDS: dict[Column, tuple[str, str]] = {
    "created_at": ("created_after", "created_before"),
    "updated_at": ("updated_after", "updated_before"),
    "score": ("min_score", "max_score"),
}
RANGES: dict[Column, Finder] = {
    "updated_at": "by_updated_at",
    "created_at": "by_created_at",
    "score": "by_score",
}
"""What finds the leads in a range of a column; the range of the first probably holds the fewest."""


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


async def read_list(pool: Pool, principal: Principal, query: ListQuery) -> bytes:
    """One page as JSON. Raises InvalidRequest for a cursor that is not of this list."""
    belongs_to = _describe_list(principal, query)
    row = await _find_page(pool, query, make_parameters(principal, query, belongs_to))
    has_more = row["found"] > query.limit
    next_cursor = None
    if has_more:
        place = Place((SORTS[query.sort_by].show(row["value"]),), row["id"])
        next_cursor = encode_cursor(place, belongs_to)
    return encode_page(
        row["body"] or "",
        make_pagination(
            None if query.cursor is not None else query.page or 1,
            query.limit, row["total"], has_more=has_more, next_cursor=next_cursor,
        ),
    )  # fmt: skip


async def _find_page(pool: Pool, query: ListQuery, values: dict[str, Any]) -> Any:
    """The one row of a statement in sql/lead_list.sql."""
    first = make_list_statement(query)
    row: Any = await pool.fetchrow(first.text, *first.bind(values))
    finder = choose_finder(query)
    if finder is None or row["total"] <= MOST_GATHERED:
        return row
    column = SORTS[query.sort_by].column
    browse = make_browse(column, query.sort_order, *finder, by_kind=_has_kind(query))
    row = await pool.fetchrow(browse.text, *browse.bind(values))
    if row["found"] > query.limit:
        return row
    # The matches lie far from where the order begins: after all, gather them.
    return await pool.fetchrow(first.text, *first.bind({**values, "most_found": ALL}))


def make_list_statement(query: ListQuery) -> Statement:
    """The statement to begin with; where it finds too many to sort, another one takes over."""
    column, finder = SORTS[query.sort_by].column, choose_finder(query)
    if finder is not None:
        return make_gather(column, query.sort_order, *finder, by_kind=_has_kind(query))
    return make_walk(
        column, query.sort_order, by_status=query.status is not None,
        by_source=query.source is not None, counted=_has_range(query, column),
    )  # fmt: skip


def choose_finder(query: ListQuery) -> tuple[Finder, Filter] | None:
    """The filter that probably matches least, and what to hold its leads against.

    None if an index gives rows and order at once.
    """
    columns = [column for column in RANGES if _has_range(query, column)]
    if query.email is not None:
        return "by_email", "filter_all"
    if query.tag is not None or query.assigned_to is not None or query.custom_fields:
        looks_at_row = "updated_at" in (*columns, SORTS[query.sort_by].column)
        if looks_at_row or _is_ambiguous(query):
            return "by_keys_and_row", "filter_all"
        return "by_keys", "filter_some"
    if not columns or columns == [SORTS[query.sort_by].column]:
        return None
    return RANGES[columns[0]], "filter_none" if len(columns) == 1 else "filter_all"


def _is_ambiguous(query: ListQuery) -> bool:
    """Whether what the index knows of the parameters could also be that of others.

    Of a field it has `name=value`, of a long value the beginning (as long as it keeps, a value may
    be the beginning of others), and for U+0001 it has U+0002.
    """
    fields = query.custom_fields
    parameters = (query.tag or "", query.assigned_to or "", *fields, *fields.values())
    return (
        any("=" in part for part in (*fields, *fields.values()))
        or any(len(value) >= KEY_LENGTH for value in fields.values())
        or any("\1" in part or "\2" in part for part in parameters)
    )


def _has_kind(query: ListQuery) -> bool:
    return query.status is not None or query.source is not None


def _has_range(query: ListQuery, column: Column) -> bool:
    return any(getattr(query, name) is not None for name in BOUNDS[column])


def make_parameters(principal: Principal, query: ListQuery, belongs_to: object) -> dict[str, Any]:
    """The values of all parameters that sql/lead_list.sql names."""
    bounds = {column: _make_bounds(query, column) for column in BOUNDS}
    sort = SORTS[query.sort_by]
    least, greatest = bounds[sort.column]
    descends = query.sort_order == "desc"
    start, stop = ((greatest, ""), least) if descends else ((least, LAST_ID), greatest)
    if query.cursor is not None:
        place = decode_cursor(query.cursor, belongs_to, kinds=(sort.parse,))
        came_to = (place.values[0], place.id)
        start = min(start, came_to) if descends else max(start, came_to)
    return {
        "tenant": principal.tenant_id,
        "live": principal.live,
        "start": start[0],
        "start_id": start[1],
        "stop": stop,
        "least": least,
        "greatest": greatest,
        "skip": ((query.page or 1) - 1) * query.limit,
        "limit": query.limit,
        "most_rows": query.limit + 1,
        "most_found": MOST_GATHERED,
        "most_looked_at": MOST_LOOKED_AT,
        "status": query.status,
        "source": query.source,
        "kinds": list_kinds(query.status, query.source),
        "created_after": bounds["created_at"][0],
        "created_before": bounds["created_at"][1],
        "updated_after": bounds["updated_at"][0],
        "updated_before": bounds["updated_at"][1],
        "score_above": bounds["score"][0],
        "score_below": bounds["score"][1],
        "tag": query.tag,
        "assigned_to": query.assigned_to,
        "email": None if query.email is None else make_email_key(query.email),
        "fields": list(query.custom_fields),
        "field_values": list(query.custom_fields.values()),
    }


def _make_bounds(query: ListQuery, column: Column) -> tuple[Any, Any]:
    """What a column lies between, both ends left out; if nothing is asked for, what all do."""
    least, greatest = (getattr(query, name) for name in BOUNDS[column])
    if column == "score":
        return (-1 if least is None else least - 1), (101 if greatest is None else greatest + 1)
    return (
        EARLIEST if least is None else parse_moment(least),
        LATEST if greatest is None else parse_moment(greatest),
    )


def _describe_list(principal: Principal, query: ListQuery) -> object:
    """Everything that a cursor must find unchanged."""
    asked = msgspec.to_builtins(query)
    for name in ("page", "limit", "cursor"):
        asked.pop(name, None)
    return ("leads", principal.tenant_id, principal.live, asked)
