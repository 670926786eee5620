"""Which indexes could find the leads of a list, and which of them to follow.

Filters together match no more than the one of them that matches least, so that one is looked up
and the others are compared. Which it is nobody knows beforehand: ranges are counted, a few entries
of their indexes first, more where all have more. Tags, assignees and fields come second, for their
index cannot be read in part.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from service.db import Connection, Pool
from service.list_query import SORTS, ListQuery, has_kind, has_range
from service.list_statements import Column, Filter, Finder, make_count

FEW, SOME, MANY, MOST = 1_000, 10_000, 100_000, 1_000_000
"""How far is counted, a turn for each; where all have more than MOST, any will do."""
KEY_LENGTH = 64
"""Characters of a custom field's value that the index knows; see search_document."""
RANGES: dict[Column, Finder] = {
    "updated_at": "by_updated_at",
    "created_at": "by_created_at",
    "score": "by_score",
}
"""What finds the leads in a range of a column."""
FoundBy = tuple[Finder, Filter]
"""What looks the leads up, and what they are then held against."""


def list_finders(query: ListQuery) -> list[FoundBy]:
    """All that could find the leads; none if an index gives rows and order at once."""
    columns = [column for column in RANGES if has_range(query, column)]
    if query.email is not None:
        return [("by_email", "filter_all")]
    if query.tag is not None or query.assigned_to is not None or query.custom_fields:
        if has_kind(query) and not columns:
            columns = ["created_at"]  # of all times, behind its kind
        looks_at_row = "updated_at" in (*columns, SORTS[query.sort_by].column)
        ranges: list[FoundBy] = [(RANGES[column], "filter_all") for column in columns]
        if looks_at_row or _is_ambiguous(query):
            return [("by_keys_and_row", "filter_all"), *ranges]
        return [("by_keys", "filter_some"), *ranges]
    if not columns or columns == [SORTS[query.sort_by].column]:
        return []
    held_against: Filter = "filter_none" if len(columns) == 1 else "filter_all"
    return [(RANGES[column], held_against) for column in columns]


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


async def choose_finder(
    pool: Pool | Connection, query: ListQuery, values: Mapping[str, Any]
) -> FoundBy:
    """The finder that matches least, or not many times what the least does."""
    finders = list_finders(query)
    if len(finders) == 1:
        return finders[0]
    count = partial(_count, pool, has_kind(query), values)
    keys = [finder for finder in finders if finder[0] not in RANGES.values()]
    ranges = [finder for finder in finders if finder not in keys]
    turns = [(ranges, FEW), (keys, SOME), (ranges, SOME), (ranges, MANY)]
    if not keys:
        turns.append((ranges, MOST))
    for some, most in turns:
        fewest, n = finders[0], most + 1
        for finder in some:
            counted = await count(finder, n)
            if counted < n:
                fewest, n = finder, counted
        if n <= most:
            # Keys that are many may still be fewer: to say so costs no more than the range would.
            are_fewer = most == MANY and keys and await count(keys[0], n) < n
            return keys[0] if are_fewer else fewest
    return finders[0]


async def _count(
    pool: Pool | Connection, by_kind: bool, values: Mapping[str, Any], found_by: FoundBy, most: int
) -> int:
    count = make_count(found_by[0], by_kind=by_kind)
    counted: int = await pool.fetchval(count.text, *count.bind({**values, "most": most}))
    return counted
