"""The list of leads: its statements and its pages."""

from collections.abc import Mapping
from typing import Any

import msgspec

from service.auth import Principal
from service.cursor import Place, decode_cursor, encode_cursor
from service.db import Pool
from service.leads.emails import make_email_key
from service.leads.kinds import list_kinds
from service.leads.list_finders import FoundBy, choose_finder, list_finders
from service.leads.list_query import BOUNDS, SORTS, ListQuery, has_kind, has_range, make_bounds
from service.leads.list_statements import make_browse, make_gather, make_walk
from service.pages import encode_page, make_pagination, refuse_deep_page
from sql.compose import Statement

MOST_GATHERED = 10_000
"""Matches that are sorted as a whole, some 10 ms; with more, the order is followed instead."""
MOST_LOOKED_AT = 5_000
"""Leads that are looked at in order for a page of such a list."""
SHALLOW = 1_000
"""Leads that are skipped on the way from the beginning without a thought for the end."""
DEEPEST = 100_000
"""Leads that are skipped for a page from the nearer end: some 40 ms."""
ALL = 2**62
LAST_ID = "~"
"""Behind every id."""


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


async def _find_page(pool: Pool, query: ListQuery, values: Mapping[str, Any]) -> Any:
    """The one row of a statement in sql/lead_list.sql."""
    if not list_finders(query):
        row = await _fetch(pool, make_list_walk(query), values)
        check_depth(query, row["total"])
        return row
    finder = await choose_finder(pool, query, values)
    row = await _fetch(pool, make_list_gather(query, finder), values)
    if row["total"] <= MOST_GATHERED:
        return row
    row = await _fetch(pool, make_list_browse(query, finder), values)
    check_depth(query, row["total"])
    if row["found"] > query.limit:
        return row
    # The matches lie far from where the order begins: after all, gather them.
    return await _fetch(pool, make_list_gather(query, finder), {**values, "most_found": ALL})


async def _fetch(pool: Pool, statement: Statement, values: Mapping[str, Any]) -> Any:
    return await pool.fetchrow(statement.text, *statement.bind(values))


def make_list_walk(query: ListQuery) -> Statement:
    """Along an index that gives rows and order at once."""
    column = SORTS[query.sort_by].column
    return make_walk(
        column, query.sort_order, by_status=query.status is not None,
        by_source=query.source is not None, counted=has_range(query, column),
        deep=count_skipped(query) > SHALLOW,
    )  # fmt: skip


def make_list_gather(query: ListQuery, finder: FoundBy) -> Statement:
    """All that the finder knows, sorted."""
    column = SORTS[query.sort_by].column
    return make_gather(column, query.sort_order, *finder, by_kind=has_kind(query))


def make_list_browse(query: ListQuery, finder: FoundBy) -> Statement:
    """Lead by lead in order."""
    column = SORTS[query.sort_by].column
    return make_browse(column, query.sort_order, *finder, by_kind=has_kind(query))


def count_skipped(query: ListQuery) -> int:
    """How many leads come before the page."""
    return ((query.page or 1) - 1) * query.limit


def check_depth(query: ListQuery, total: int) -> None:
    """Raises InvalidRequest for a page too far from both ends; one past the end is just empty."""
    skipped = count_skipped(query)
    if DEEPEST < skipped < total - DEEPEST:
        raise refuse_deep_page(f"more than {DEEPEST:,} leads away from either end of the list")


def make_parameters(principal: Principal, query: ListQuery, belongs_to: object) -> dict[str, Any]:
    """The values of all parameters that sql/lead_list.sql names."""
    bounds = {column: make_bounds(query, column) for column in BOUNDS}
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
        "skip": count_skipped(query),
        "deepest": DEEPEST,
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


def _describe_list(principal: Principal, query: ListQuery) -> object:
    """Everything that a cursor must find unchanged."""
    asked = msgspec.to_builtins(query)
    for name in ("page", "limit", "cursor"):
        asked.pop(name, None)
    return ("leads", principal.tenant_id, principal.live, asked)
