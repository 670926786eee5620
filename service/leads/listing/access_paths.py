"""Which index finds the leads of a list.

The index of one filter finds the candidates of a list, and the other filters are checked on each of
them. The best filter is the one with the fewest matches. To find it, the matches of ranges are
counted first, up to a small bound; then those of keys (tags, assignees, custom fields), whose index
cannot be read in part; then those of ranges again, up to a larger bound. If every filter has many
matches, a sample decides.
"""

from collections.abc import Mapping
from typing import Any

from service.database.connect import Connection, Pool
from service.leads.listing.query import SORTS, ListQuery, has_range, has_status_or_source
from service.leads.listing.statements import AccessPath, Column, Filter, make_count, make_estimate

FEW, SOME = 1_000, 10_000
"""The bounds of the counts: FEW for ranges before keys, SOME for keys and for ranges after keys."""
KEY_LENGTH = 64
"""Characters of a custom field's value that the index contains; see search_document."""
RANGES: dict[Column, AccessPath] = {
    "updated_at": "by_updated_at",
    "created_at": "by_created_at",
    "score": "by_score",
}
"""The access path for a range of each column."""
RANGES_AND_ROWS: dict[Column, AccessPath] = {**RANGES, "score": "by_score_and_row"}
"""As RANGES, for lists that need other columns than time of creation, score, status and source."""
COSTS: dict[AccessPath, int] = {
    "by_keys": 1,
    "by_keys_and_row": 2,
    "by_created_at": 1,
    "by_updated_at": 4,
    "by_score": 2,
    "by_score_and_row": 16,
}
"""The cost of a match. Leads that were created together are stored together; leads with the same
score are not."""
COST_OF_STATUS_SOURCE = 2
"""The cost factor of a range with a status or source: other leads are stored between its leads."""
ESTIMATES = {path: path.removesuffix("_and_row") for path in COSTS}
"""The column of lead_list_estimate that estimates each access path."""
FilteredPath = tuple[AccessPath, Filter]
"""The access path that finds the leads, and the filter that is checked on each of them."""


def list_access_paths(query: ListQuery) -> list[FilteredPath]:
    """All access paths of a list; none if one index finds its leads in its order."""
    columns = [column for column in RANGES if has_range(query, column)]
    if query.email is not None:
        return [("by_email", "filter_all")]
    if query.tag is not None or query.assigned_to is not None or query.custom_fields:
        if has_status_or_source(query) and not columns:
            columns = ["created_at"]  # by status and source, without a bound in time
        needs_row = "updated_at" in (*columns, SORTS[query.sort_by].column)
        ranges: list[FilteredPath] = [(RANGES_AND_ROWS[column], "filter_all") for column in columns]
        if needs_row or _is_ambiguous(query):
            return [("by_keys_and_row", "filter_all"), *ranges]
        return [("by_keys", "filter_some"), *ranges]
    if not columns or columns == [SORTS[query.sort_by].column]:
        return []
    if "updated_at" in (*columns, SORTS[query.sort_by].column):
        row_filter: Filter = "filter_none" if len(columns) == 1 else "filter_all"
        return [(RANGES_AND_ROWS[column], row_filter) for column in columns]
    row_filter = "filter_none" if len(columns) == 1 else "filter_some"
    return [(RANGES[column], row_filter) for column in columns]


def _is_ambiguous(query: ListQuery) -> bool:
    """Whether the index could confuse the parameters with others, so that the lead must be checked.

    The index contains a field as `name=value`, only the beginning of a long value, and U+0002 in
    place of U+0001.
    """
    fields = query.custom_fields
    parameters = (query.tag or "", query.assigned_to or "", *fields, *fields.values())
    return (
        any("=" in part for part in (*fields, *fields.values()))
        or any(len(value) >= KEY_LENGTH for value in fields.values())
        or any("\1" in part or "\2" in part for part in parameters)
    )


def _is_range(path: AccessPath) -> bool:
    return path in RANGES.values() or path in RANGES_AND_ROWS.values()


async def choose_access_path(
    pool: Pool | Connection, query: ListQuery, values: Mapping[str, Any]
) -> FilteredPath:
    """The access path with the fewest matches, by counts up to SOME, beyond that by a sample."""
    paths = list_access_paths(query)
    if len(paths) == 1:
        return paths[0]
    keys = [path for path in paths if not _is_range(path[0])]
    ranges = [path for path in paths if path not in keys]
    for some, most in ((ranges, FEW), (keys, SOME), (ranges, SOME)):
        fewest, n = paths[0], most + 1
        for path in some:
            count = make_count(path[0], by_status_source=has_status_or_source(query))
            counted = await pool.fetchval(count.text, *count.bind({**values, "most": n}))
            if counted < n:
                fewest, n = path, counted
        if n <= most:
            return fewest
    return await _estimate_access_path(pool, query, values, paths)


async def _estimate_access_path(
    pool: Pool | Connection,
    query: ListQuery,
    values: Mapping[str, Any],
    paths: list[FilteredPath],
) -> FilteredPath:
    statement = make_estimate()
    estimates: Any = await pool.fetchrow(statement.text, *statement.bind(values))

    def estimate_cost(filtered: FilteredPath) -> int:
        path, _ = filtered
        matches: int = estimates[ESTIMATES[path]]
        with_status_source = _is_range(path) and has_status_or_source(query)
        return matches * COSTS[path] * (COST_OF_STATUS_SOURCE if with_status_source else 1)

    return min(paths, key=estimate_cost)
