"""Reads a page of the list of leads."""

from collections.abc import Mapping
from typing import Any

import msgspec

from service.access.authentication import Principal
from service.database.connect import Pool
from service.leads.email_keys import make_email_key
from service.leads.listing.access_paths import FilteredPath, choose_access_path, list_access_paths
from service.leads.listing.query import (
    BOUNDS,
    SORTS,
    ListQuery,
    has_range,
    has_status_or_source,
    make_bounds,
)
from service.leads.listing.statements import (
    make_filtered_scan,
    make_ordered_scan,
    make_sorted_matches,
)
from service.leads.status_source import list_status_source_codes
from service.pagination.pages import encode_page, make_pagination, refuse_deep_page
from sql.compose import Statement

MOST_SORTED = 10_000
"""Matches that are sorted: some 10 ms. If there are more, the leads are scanned in order."""
MOST_SCANNED = 5_000
"""Leads that are scanned in order for a page of such a list."""
SHALLOW = 1_000
"""Up to this many skipped leads, a page is read from the start even if the end is nearer."""
MOST_SKIPPED = 100_000
"""Leads that are skipped for a page, from the nearer end: some 40 ms."""
ALL = 2**62
LAST_ID = "~"
"""A text that sorts after every id."""


async def read_list(pool: Pool, principal: Principal, query: ListQuery) -> bytes:
    """One page as JSON. Raises InvalidRequest for a cursor of another list."""
    belongs_to = _describe_list(principal, query)
    row = await _find_page(pool, query, make_parameters(principal, query, belongs_to))
    has_more = row["found"] > query.limit
    next_cursor = None
    if has_more:
        next_cursor = SORTS[query.sort_by].cursors.encode(belongs_to, row["value"], row["id"])
    return encode_page(
        row["body"] or "",
        make_pagination(
            None if query.cursor is not None else query.page or 1,
            query.limit,
            row["total"],
            has_more=has_more,
            next_cursor=next_cursor,
        ),
    )


async def _find_page(pool: Pool, query: ListQuery, values: Mapping[str, Any]) -> Any:
    """The one row that a statement of sql/lead_list.sql returns."""
    if not list_access_paths(query):
        row = await _fetch(pool, make_list_ordered_scan(query), values)
        check_depth(query, row["total"])
        return row
    path = await choose_access_path(pool, query, values)
    row = await _fetch(pool, make_list_sorted_matches(query, path), values)
    if row["total"] <= MOST_SORTED:
        return row
    row = await _fetch(pool, make_list_filtered_scan(query, path), values)
    check_depth(query, row["total"])
    if row["found"] > query.limit:
        return row
    # The matches are far from the start of the order: find and sort all of them.
    return await _fetch(pool, make_list_sorted_matches(query, path), {**values, "most_sorted": ALL})


async def _fetch(pool: Pool, statement: Statement, values: Mapping[str, Any]) -> Any:
    return await pool.fetchrow(statement.text, *statement.bind(values))


def make_list_ordered_scan(query: ListQuery) -> Statement:
    """The statement for a list whose leads and order are in one index."""
    column = SORTS[query.sort_by].column
    return make_ordered_scan(
        column,
        query.sort_order,
        by_status=query.status is not None,
        by_source=query.source is not None,
        counted=has_range(query, column),
        deep=count_skipped(query) > SHALLOW,
    )


def make_list_sorted_matches(query: ListQuery, path: FilteredPath) -> Statement:
    """The statement for a list with few matches."""
    column = SORTS[query.sort_by].column
    return make_sorted_matches(
        column, query.sort_order, *path, by_status_source=has_status_or_source(query)
    )


def make_list_filtered_scan(query: ListQuery, path: FilteredPath) -> Statement:
    """The statement for a list with many matches."""
    column = SORTS[query.sort_by].column
    return make_filtered_scan(
        column, query.sort_order, *path, by_status_source=has_status_or_source(query)
    )


def count_skipped(query: ListQuery) -> int:
    """The number of leads before the page."""
    return ((query.page or 1) - 1) * query.limit


def check_depth(query: ListQuery, total: int) -> None:
    """Raises InvalidRequest for a page too far from both ends. A page past the end is empty."""
    skipped = count_skipped(query)
    if MOST_SKIPPED < skipped < total - MOST_SKIPPED:
        raise refuse_deep_page(f"more than {MOST_SKIPPED:,} leads away from either end of the list")


def make_parameters(principal: Principal, query: ListQuery, belongs_to: object) -> dict[str, Any]:
    """The values of all parameters in sql/lead_list.sql."""
    bounds = {column: make_bounds(query, column) for column in BOUNDS}
    sort = SORTS[query.sort_by]
    least, greatest = bounds[sort.column]
    descends = query.sort_order == "desc"
    start, stop = ((greatest, ""), least) if descends else ((least, LAST_ID), greatest)
    if query.cursor is not None:
        position = sort.cursors.decode(belongs_to, query.cursor)
        start = min(start, position) if descends else max(start, position)
    return {
        "tenant": principal.tenant_id,
        "live": principal.live,
        "start": start[0],
        "start_id": start[1],
        "stop": stop,
        "least": least,
        "greatest": greatest,
        "skip": count_skipped(query),
        "most_skipped": MOST_SKIPPED,
        "limit": query.limit,
        "most_rows": query.limit + 1,
        "most_sorted": MOST_SORTED,
        "most_scanned": MOST_SCANNED,
        "status": query.status,
        "source": query.source,
        "status_sources": list_status_source_codes(query.status, query.source),
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
    """The tenant, mode, filters and sort of a list: its cursors are valid for no other list."""
    filters = msgspec.to_builtins(query)
    for name in ("page", "limit", "cursor"):
        filters.pop(name, None)
    return ("leads", principal.tenant_id, principal.live, filters)
