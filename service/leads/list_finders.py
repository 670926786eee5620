"""Which indexes could find the leads of a list, and which of them to follow.

Filters together match no more than the one of them that matches least, so that one is looked up
and the others are compared. Which it is nobody knows beforehand: ranges are counted, a few entries
of their indexes first, more if keys (tags, assignees, fields) are many too; these come second, for
their index cannot be read in part. Where all have many, a sample tells them apart.
"""

from collections.abc import Mapping
from typing import Any

from service.db import Connection, Pool
from service.leads.list_query import SORTS, ListQuery, has_kind, has_range
from service.leads.list_statements import Column, Filter, Finder, make_count, make_guess

FEW, SOME = 1_000, 10_000
"""How far ranges are counted, before keys and after."""
KEY_LENGTH = 64
"""Characters of a custom field's value that the index knows; see search_document."""
RANGES: dict[Column, Finder] = {
    "updated_at": "by_updated_at",
    "created_at": "by_created_at",
    "score": "by_score",
}
"""What finds the leads in a range of a column."""
COSTS: dict[Finder, int] = {
    "by_keys": 1, "by_keys_and_row": 2, "by_created_at": 1, "by_updated_at": 4, "by_score": 4,
}  # fmt: skip
"""Of a match: leads that came one after the other lie side by side, those alike in score do not."""
COST_BEHIND_KIND = 2
"""Times that, of a range: where a kind is asked for, others lie between its leads."""
COLUMNS = {finder: finder.removesuffix("_and_row") for finder in COSTS}
"""What a sample calls them."""
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
    """The finder that matches least: counted up to SOME, beyond that as a sample has it."""
    finders = list_finders(query)
    if len(finders) == 1:
        return finders[0]
    keys = [finder for finder in finders if finder[0] not in RANGES.values()]
    ranges = [finder for finder in finders if finder not in keys]
    for some, most in ((ranges, FEW), (keys, SOME), (ranges, SOME)):
        fewest, n = finders[0], most + 1
        for finder in some:
            count = make_count(finder[0], by_kind=has_kind(query))
            counted = await pool.fetchval(count.text, *count.bind({**values, "most": n}))
            if counted < n:
                fewest, n = finder, counted
        if n <= most:
            return fewest
    return await _guess_finder(pool, query, values, finders)


async def _guess_finder(
    pool: Pool | Connection, query: ListQuery, values: Mapping[str, Any], finders: list[FoundBy]
) -> FoundBy:
    guess = make_guess()
    guessed: Any = await pool.fetchrow(guess.text, *guess.bind(values))

    def estimate(found_by: FoundBy) -> int:
        matches: int = guessed[COLUMNS[found_by[0]]]
        is_range = found_by[0] in RANGES.values()
        behind = COST_BEHIND_KIND if is_range and has_kind(query) else 1
        return matches * COSTS[found_by[0]] * behind

    return min(finders, key=estimate)
