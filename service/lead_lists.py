"""The list of leads: its query, its statements, its pages."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

import sql
from service.auth import Principal
from service.cursor import NextCursor, Place, decode_cursor, encode_cursor
from service.db import Pool
from service.emails import make_email_key
from service.errors import Fault
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


class Sort(msgspec.Struct, frozen=True):
    """What is behind a sortBy: the column, how a cursor writes its value, and how it reads it."""

    column: str
    shown: str
    parse: Callable[[str], Any]


SORTS = {
    "createdAt": Sort("created_at", "iso_ms(l.created_at)", parse_moment),
    "updatedAt": Sort("updated_at", "iso_ms(l.updated_at)", parse_moment),
    "score": Sort("score", "l.score::text", int),
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


def make_statement(sort_by: str, sort_order: str) -> str:
    """lead_list for one sort and direction: six statements in all, none with a client's text."""
    sort = SORTS[sort_by]
    return (
        sql.lead_list.replace("SORT", sort.column)
        .replace("SHOWN", sort.shown)
        .replace("DIRECTION", sort_order)
        .replace("BEYOND", "<" if sort_order == "desc" else ">")
    )


async def read_list(pool: Pool, principal: Principal, query: ListQuery) -> bytes:
    """One page as JSON. Raises InvalidRequest for a cursor that is not of this list."""
    filters = _make_filters(principal, query)
    belongs_to = (query.sort_by, query.sort_order, [str(value) for value in filters])
    number = 1 if query.page is None else query.page
    value, last_id, offset = None, None, (number - 1) * query.limit
    if query.cursor is not None:
        place = decode_cursor(query.cursor, belongs_to, kinds=(SORTS[query.sort_by].parse,))
        value, last_id, offset = place.values[0], place.id, 0
    statement = make_statement(query.sort_by, query.sort_order)
    rows = await pool.fetch(statement, *filters, query.limit + 1, offset, value, last_id)
    total = await pool.fetchval(sql.lead_count, *filters)
    shown, has_more = rows[: query.limit], len(rows) > query.limit
    next_cursor = None
    if has_more:
        last = shown[-1]
        next_cursor = encode_cursor(Place((last["sort_value"],), last["id"]), belongs_to)
    page = None if query.cursor is not None else number
    return encode_page(
        [row["body"] for row in shown],
        make_pagination(page, query.limit, total, has_more=has_more, next_cursor=next_cursor),
    )


def _make_filters(principal: Principal, query: ListQuery) -> list[Any]:
    """The parameters $1 to $14 of lead_list and lead_count."""
    moments = (
        query.created_after, query.created_before, query.updated_after, query.updated_before,
    )  # fmt: skip
    fields = query.custom_fields
    return [
        principal.tenant_id,
        principal.live,
        query.status,
        query.source,
        *(None if moment is None else parse_moment(moment) for moment in moments),
        query.tag,
        query.assigned_to,
        None if query.email is None else make_email_key(query.email),
        query.min_score,
        query.max_score,
        msgspec.json.encode(fields).decode() if fields else None,
    ]
