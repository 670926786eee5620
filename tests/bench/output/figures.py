"""Computes medians, spreads and the ratios that the project aims at from runs. Pure.

A ratio is taken within each round, in which both sides ran in the same minute; its median and its
spread are those of the rounds.
"""

import operator
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from tests.bench.plan import Act, Contestant, Idle, Run

Verdict = Literal["aim", "reached", "missed", "not measured"]
Measure = Literal["per_second", "p50_ms", "p99_ms", "rss_mib"]


class Spread(msgspec.Struct, frozen=True):
    """The median of the rounds, the lowest and the highest."""

    median: float
    low: float
    high: float


class Row(msgspec.Struct, kw_only=True):
    """All rounds of one step."""

    act: Act
    workload: str
    contestant: Contestant
    leads: int
    per_second: Spread
    p50_ms: Spread | None
    p99_ms: Spread | None
    rss_mib: Spread | None
    failures: int


class Figure(msgspec.Struct, kw_only=True):
    """One line of the table of figures. `more` tells whether a higher value is better."""

    title: str
    unit: str
    at_least: float
    aim: float
    more: bool
    rounds: list[float]
    spread: Spread | None
    verdict: Verdict


class Side(msgspec.Struct, frozen=True):
    """One side of a ratio."""

    workload: str
    contestant: Contestant = "service-1"
    measure: Measure = "per_second"
    act: Act = "capacity"
    big: bool = False
    """Whether the largest table is meant instead of the smallest."""


class Goal(msgspec.Struct, frozen=True):
    """A figure that is wanted: `top ÷ bottom`, or `top` alone."""

    title: str
    top: Side
    bottom: Side | None
    at_least: float
    aim: float
    more: bool = True
    unit: str = ""
    """Empty for a ratio."""


def make_goals(small: int, big: int) -> list[Goal]:
    """The figures of issue 4's table; the titles name the measured sizes."""
    get, post, patch, rows = (Side(name) for name in ("get", "post", "patch", "list"))
    goals = [
        Goal("GET one ÷ empty Starlette reply", get, Side("get", "empty-1"), 0.40, 0.60),
        Goal("GET one ÷ FastAPI peer", get, Side("get", "peer-1"), 12, 20),
        Goal("POST ÷ pgbench, lead + event", post, Side("post", "pgbench"), 0.55, 1.0),
        Goal("POST ÷ FastAPI peer", post, Side("post", "peer-1"), 15, 25),
        Goal("PATCH ÷ POST", patch, post, 0.8, 1.0),
        Goal("list of 25 ÷ FastAPI peer", rows, Side("list", "peer-1"), 6, 12),
    ]
    flat = {
        "list": "list", "deep": "cursor page 10,000", "search_few": "search, few matches",
        "search_typo": "search, typos and parts of rare words",
        "search_many": "search, many matches",
    }  # fmt: skip
    for name, title in flat.items():
        at_small = Side(name, measure="p99_ms", act="half")
        at_big = msgspec.structs.replace(at_small, big=True)
        text = f"p99 of {title}: {big:,} ÷ {small:,} leads"
        if big != small:
            goals.append(Goal(text, at_big, at_small, 1.5, 1.1, more=False))
    for name, at_least, aim in (
        ("search_few", 30, 10),
        ("search_typo", 30, 10),
        ("search_many", 60, 20),
    ):
        side = Side(name, measure="p99_ms", act="half", big=True)
        text = f"p99 of {flat[name]}, {big:,} leads, half its capacity"
        goals.append(Goal(text, side, None, at_least, aim, more=False, unit="ms"))
    return goals


def compute_figures(
    runs: Sequence[Run], idle: Sequence[Idle], sizes: Sequence[int]
) -> list[Figure]:
    """Every figure, measured or not, in the order of the issue's table."""
    figures = []
    for goal in make_goals(sizes[0], sizes[-1]):
        top = find_rounds(runs, goal.top, sizes)
        if goal.bottom is not None:
            bottom = find_rounds(runs, goal.bottom, sizes)
            top = {n: top[n] / bottom[n] for n in sorted(top.keys() & bottom.keys()) if bottom[n]}
        figures.append(_judge(goal, list(top.values())))
    added = [each.batched_ms - each.direct_ms for each in idle]
    figures.append(_judge(ADDED, [round(value, 2) for value in added]))
    figures.append(_judge(MEMORY, find_peaks(runs)))
    return figures


ADDED = Goal(
    "single client, idle server: added by batching", Side("idle"), None, 0.1, 0.0,
    more=False, unit="ms",
)  # fmt: skip
MEMORY = Goal(
    "resident memory per API process under load", Side("any"), None, 150, 90,
    more=False, unit="MiB",
)  # fmt: skip


def find_rounds(runs: Sequence[Run], side: Side, sizes: Sequence[int]) -> dict[int, float]:
    """The measured values of one side, by round."""
    leads = sizes[-1] if side.big else sizes[0]
    wanted = (side.act, side.workload, side.contestant, leads)
    found = {}
    for run in runs:
        value = getattr(run, side.measure)
        if (run.act, run.workload, run.contestant, run.leads) == wanted and value is not None:
            found[run.round] = value
    return found


def find_peaks(runs: Sequence[Run]) -> list[float]:
    """The most memory that any process of the service held, by round."""
    peaks: dict[int, float] = {}
    for run in runs:
        if run.contestant.startswith("service") and run.rss_mib is not None:
            peaks[run.round] = max(peaks.get(run.round, 0.0), run.rss_mib)
    return list(peaks.values())


def measure_spread(values: Sequence[float]) -> Spread | None:
    """None if there are no values."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values))


def summarize_steps(runs: Sequence[Run]) -> list[Row]:
    """One row for all rounds of a step, in the order in which steps were first run."""
    groups: dict[tuple[Act, str, Contestant, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.act, run.workload, run.contestant, run.leads), []).append(run)
    rows = []
    for (act, workload, contestant, leads), group in groups.items():
        spreads = {name: _spread_of(group, name) for name in ("p50_ms", "p99_ms", "rss_mib")}
        rate = measure_spread([run.per_second for run in group])
        if rate is None:
            raise AssertionError("a group has at least one run")
        failures = sum(run.failures for run in group)
        rows.append(
            Row(act=act, workload=workload, contestant=contestant, leads=leads,
                per_second=rate, failures=failures, **spreads)
        )  # fmt: skip
    return rows


def _spread_of(group: Sequence[Run], name: str) -> Spread | None:
    values = [getattr(run, name) for run in group]
    return measure_spread([value for value in values if value is not None])


def _judge(goal: Goal, values: list[float]) -> Figure:
    spread = measure_spread(values)
    meets = operator.ge if goal.more else operator.le
    verdict: Verdict = "not measured"
    if spread is not None:
        verdict = "missed"
        if meets(spread.median, goal.at_least):
            verdict = "aim" if meets(spread.median, goal.aim) else "reached"
    return Figure(
        title=goal.title, unit=goal.unit, at_least=goal.at_least, aim=goal.aim, more=goal.more,
        rounds=values, spread=spread, verdict=verdict,
    )  # fmt: skip
