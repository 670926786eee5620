"""Composes the statement that reads a page of leads from the parts in sql/lead_list.sql.

A list that one index can find and order is read by an ordered scan of it. Other lists find their
matches by the index of one filter and sort them (sorted matches). If there are many matches, the
leads are scanned in order and filtered until the page is full (filtered scan). Counts and an
estimate help to choose the index. The number of possible statements is small, and a test prepares
all of them.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Literal, get_args

from sql.compose import Statement, compose, fill_part

Column = Literal["created_at", "updated_at", "score"]
Order = Literal["asc", "desc"]
AccessPath = Literal[
    "by_keys", "by_keys_and_row", "by_email",
    "by_updated_at", "by_created_at", "by_score", "by_score_and_row",
]  # fmt: skip
Filter = Literal["filter_none", "filter_some", "filter_all"]
Source = Literal[
    "lead_list_source_all",
    "lead_list_source_one_status",
    "lead_list_source_one_source",
    "lead_list_source_one_status_and_source",
]
COLUMNS: tuple[Column, ...] = ("created_at", "updated_at", "score")
ORDERS: tuple[Order, ...] = ("asc", "desc")
ACCESS_PATHS: tuple[tuple[AccessPath, Filter], ...] = (
    ("by_keys", "filter_some"),
    ("by_keys_and_row", "filter_all"),
    ("by_email", "filter_all"),
    *(("by_updated_at", each) for each in ("filter_none", "filter_all")),
    *(("by_created_at", each) for each in ("filter_none", "filter_some", "filter_all")),
    *(("by_score", each) for each in ("filter_none", "filter_some")),
    *(("by_score_and_row", each) for each in ("filter_none", "filter_all")),
)
"""Each access path, with the filters that may remain to be checked."""
_WITHOUT_UPDATED_AT: tuple[AccessPath, ...] = ("by_keys", "by_score")
"""Access paths by lead_search and lead_score, which have no such column."""


@cache
def make_ordered_scan(
    column: Column, order: Order, *, by_status: bool, by_source: bool, counted: bool, deep: bool
) -> Statement:
    """Reads the index of a sort in order.

    `counted`: the list has a range of the sort column, so its total is counted. `deep`: the page is
    read from the nearer end of the list.
    """
    sources: dict[tuple[bool, bool], Source] = {
        (False, False): "lead_list_source_all",
        (True, False): "lead_list_source_one_status",
        (False, True): "lead_list_source_one_source",
        (True, True): "lead_list_source_one_status_and_source",
    }
    words = {
        **_describe_order(column, order),
        "source": sources[by_status, by_source],
        "total": "lead_list_total_counted" if counted else "lead_list_total_from_counters",
        "branch_limit": "lead_list_branch_limit_forward",
    }
    if not (by_status or by_source):
        words["lead_list_and_status_source"] = ""
    if not deep:
        return compose("lead_list_ordered_scan", words)
    reversed_words = {
        "direction": words["backward"],
        "branch_limit": "lead_list_branch_limit_backward",
    }
    return compose(
        "lead_list_ordered_scan_deep",
        {**words, "source_reversed": fill_part(words["source"], {**words, **reversed_words})},
    )


@cache
def make_sorted_matches(
    column: Column,
    order: Order,
    path: AccessPath,
    row_filter: Filter,
    *,
    by_status_source: bool,
) -> Statement:
    """Finds all matches by the access path, and sorts them."""
    words = _describe_filters(column, order, path, row_filter, by_status_source=by_status_source)
    return compose("lead_list_sorted_matches", words)


@cache
def make_filtered_scan(
    column: Column,
    order: Order,
    path: AccessPath,
    row_filter: Filter,
    *,
    by_status_source: bool,
) -> Statement:
    """Scans the leads in order and filters them; the access path finds the total."""
    words = _describe_filters(column, order, path, row_filter, by_status_source=by_status_source)
    return compose("lead_list_filtered_scan", words)


@cache
def make_count(path: AccessPath, *, by_status_source: bool) -> Statement:
    """Counts the leads that an access path finds, up to a bound."""
    words = {"access_path": _name_counted_path(path, "filter_none")}
    return compose(
        "lead_list_count",
        words if by_status_source else {**words, "lead_list_and_status_source": ""},
    )


@cache
def make_estimate() -> Statement:
    """Estimates how many leads each access path finds, from a sample."""
    return compose("lead_list_estimate", {})


def make_all() -> Iterator[Statement]:
    """Yields every statement that can be composed."""
    yield make_estimate()
    for path, by_status_source in product(get_args(AccessPath), (False, True)):
        yield make_count(path, by_status_source=by_status_source)
    for column, order in product(COLUMNS, ORDERS):
        for by_status, by_source, counted, deep in product((False, True), repeat=4):
            yield make_ordered_scan(
                column, order, by_status=by_status, by_source=by_source, counted=counted, deep=deep
            )
        for (path, row_filter), by_status_source in product(ACCESS_PATHS, (False, True)):
            if path in _WITHOUT_UPDATED_AT and column == "updated_at":
                continue
            yield make_sorted_matches(
                column, order, path, row_filter, by_status_source=by_status_source
            )
            yield make_filtered_scan(
                column, order, path, row_filter, by_status_source=by_status_source
            )


def _describe_filters(
    column: Column,
    order: Order,
    path: AccessPath,
    row_filter: Filter,
    *,
    by_status_source: bool,
) -> dict[str, str]:
    leads_in_order, scan_filter = _describe_scan(column, path, row_filter)
    words = {
        **_describe_order(column, order),
        "access_path": f"lead_list_{path}",
        "counted_path": _name_counted_path(path, row_filter),
        "filter": f"lead_list_{row_filter}",
        "leads_in_order": leads_in_order,
        "scan_filter": scan_filter,
    }
    return words if by_status_source else {**words, "lead_list_and_status_source": ""}


def _name_counted_path(path: AccessPath, row_filter: Filter) -> str:
    """The part that finds as many leads as the access path; without a filter, it needs no rows."""
    needs_no_row = path == "by_score_and_row" and row_filter == "filter_none"
    return "lead_list_by_score" if needs_no_row else f"lead_list_{path}"


def _describe_scan(column: Column, path: AccessPath, row_filter: Filter) -> tuple[str, str]:
    """The parts that read leads in the order of a column, and that filter them."""
    if column != "score":
        return "lead_list_leads_in_order", "lead_list_filter_all"
    if path in {"by_created_at", "by_score"} and row_filter != "filter_all":
        return "lead_list_scores_in_order", "lead_list_filter_some"
    return "lead_list_leads_in_order_of_score", "lead_list_filter_all"


def _describe_order(column: Column, order: Order) -> dict[str, str]:
    words = ("DESC", "ASC", "<", ">") if order == "desc" else ("ASC", "DESC", ">", "<")
    return {
        "column": column,
        "table": "lead_score" if column == "score" else "lead",
        **dict(zip(("direction", "backward", "after", "before"), words, strict=True)),
    }
