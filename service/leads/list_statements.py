"""Which statement reads a page of leads, put together from the parts in sql/lead_list.sql.

A list in the order of an index is read along it (`walk`). Other filters are looked up by the index
of one of them and sorted (`gather`), and where they match many, the order is followed until the
page is full (`browse`). `count` and `guess` help to tell which index. All statements there can be
are few and known, and a test prepares each.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Literal, get_args

from sql.compose import Statement, compose, fill_part

Column = Literal["created_at", "updated_at", "score"]
Order = Literal["asc", "desc"]
Finder = Literal[
    "by_keys", "by_keys_and_row", "by_email", "by_updated_at", "by_created_at", "by_score"
]
Filter = Literal["filter_none", "filter_some", "filter_all"]
Source = Literal[
    "lead_list_any", "lead_list_one_status", "lead_list_one_source", "lead_list_one_kind"
]
COLUMNS: tuple[Column, ...] = ("created_at", "updated_at", "score")
ORDERS: tuple[Order, ...] = ("asc", "desc")
FINDERS: tuple[tuple[Finder, Filter], ...] = (
    ("by_keys", "filter_some"),
    ("by_keys_and_row", "filter_all"),
    ("by_email", "filter_all"),
    *((finder, each) for finder in get_args(Finder)[3:] for each in ("filter_none", "filter_all")),
)
"""What looks leads up, and what they are then held against."""


@cache
def make_walk(
    column: Column, order: Order, *, by_status: bool, by_source: bool, counted: bool, deep: bool
) -> Statement:
    """Along the index of a sort. `counted`: a range of it is asked for, so no counter knows.

    `deep`: from its nearer end.
    """
    sources: dict[tuple[bool, bool], Source] = {
        (False, False): "lead_list_any",
        (True, False): "lead_list_one_status",
        (False, True): "lead_list_one_source",
        (True, True): "lead_list_one_kind",
    }
    words = {
        **_describe_order(column, order),
        "source": sources[by_status, by_source],
        "total": "lead_list_total_counted" if counted else "lead_list_total_kept",
        "reach": "lead_list_reach_ahead",
    }
    if not (by_status or by_source):
        words["lead_list_and_kind"] = ""
    if not deep:
        return compose("lead_list_walk", words)
    turned = {"direction": words["backward"], "reach": "lead_list_reach_back"}
    return compose(
        "lead_list_walk_deep",
        {**words, "source_turned": fill_part(words["source"], {**words, **turned})},
    )


@cache
def make_gather(
    column: Column, order: Order, finder: Finder, held_against: Filter, *, by_kind: bool
) -> Statement:
    """All that match, by the index of `finder`, then sorted."""
    words = _describe_search(column, order, finder, held_against, by_kind=by_kind)
    return compose("lead_list_gather", words)


@cache
def make_browse(
    column: Column, order: Order, finder: Finder, held_against: Filter, *, by_kind: bool
) -> Statement:
    """What matches among the first leads of the sort; the total by the index of `finder`."""
    words = _describe_search(column, order, finder, held_against, by_kind=by_kind)
    return compose("lead_list_browse", words)


@cache
def make_count(finder: Finder, *, by_kind: bool) -> Statement:
    """How many `finder` finds, up to a bound."""
    words = {"finder": f"lead_list_{finder}"}
    return compose("lead_list_count", words if by_kind else {**words, "lead_list_and_kind": ""})


@cache
def make_guess() -> Statement:
    """How the finders compare, by a sample."""
    return compose("lead_list_guess", {})


def make_all() -> Iterator[Statement]:
    """Every statement there can be."""
    yield make_guess()
    for finder, by_kind in product(get_args(Finder), (False, True)):
        yield make_count(finder, by_kind=by_kind)
    for column, order in product(COLUMNS, ORDERS):
        for by_status, by_source, counted, deep in product((False, True), repeat=4):
            yield make_walk(
                column, order, by_status=by_status, by_source=by_source, counted=counted, deep=deep
            )
        for finder, by_kind in product(FINDERS, (False, True)):
            if finder[0] == "by_keys" and column == "updated_at":
                continue  # its table does not know
            yield make_gather(column, order, *finder, by_kind=by_kind)
            yield make_browse(column, order, *finder, by_kind=by_kind)


def _describe_search(
    column: Column, order: Order, finder: Finder, held_against: Filter, *, by_kind: bool
) -> dict[str, str]:
    words = {
        **_describe_order(column, order),
        "finder": f"lead_list_{finder}",
        "filter": f"lead_list_{held_against}",
    }
    return words if by_kind else {**words, "lead_list_and_kind": ""}


def _describe_order(column: Column, order: Order) -> dict[str, str]:
    words = ("DESC", "ASC", "<", ">") if order == "desc" else ("ASC", "DESC", ">", "<")
    return {
        "column": column,
        **dict(zip(("direction", "backward", "after", "before"), words, strict=True)),
    }
