"""The tables of the pipeline bench."""

import statistics
from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.bench.pipeline.compare import LATENCIES
from tests.bench.pipeline.cpu import GROUPS
from tests.bench.pipeline.probe import Latency
from tests.bench.pipeline.profile import FunctionTime
from tests.bench.pipeline.run import Run
from tests.bench.pipeline.statements import choose_top

Column = tuple[str, Callable[[Run], str]]


def print_runs(runs: Sequence[Run], console: Console) -> None:
    """Prints processor time, rates, latencies and bytes of all runs, then each run's statements."""
    console.print(make_table("Processor time", runs, list_cpu_columns(runs)))
    console.print(make_table("Rates and lag", runs, RATES))
    console.print(make_table("Latencies, ms, p50 / p99", runs, list_latency_columns()))
    console.print(make_table("Statements and bytes, of each lead", runs, PER_LEAD))
    for run in runs:
        if run.statements:
            console.print(make_statement_table(run))
        for process, functions in run.profile.items():
            console.print(make_profile_table(run, process, functions))


def make_table(title: str, runs: Sequence[Run], columns: Sequence[Column]) -> Table:
    """A row for each run."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("load", no_wrap=True)
    for name, _ in columns:
        table.add_column(name, justify="right")
    for run in runs:
        table.add_row(name_run(run), *(show(run) for _, show in columns))
    return table


def name_run(run: Run) -> str:
    return run.load if run.variant == "plain" else f"{run.load} {run.variant}"


def compute_beyond_idle(run: Run, runs: Sequence[Run]) -> float | None:
    """µs a lead without the time that the idle service takes; None if no run was idle."""
    idle = [sum(each.percents[group] for group in GROUPS) for each in runs if each.load == "idle"]
    if not idle or run.total_cpu_us is None:
        return None
    lasted_s = run.seconds + run.catch_up_s
    return run.total_cpu_us - statistics.median(idle) / 100 * lasted_s * 1e6 / run.changes


def list_cpu_columns(runs: Sequence[Run]) -> list[Column]:
    def show_us(group: str) -> Callable[[Run], str]:
        return lambda run: format_value(run.cpu_us.get(group))

    def show_percent(group: str) -> Callable[[Run], str]:
        return lambda run: format_value(run.percents.get(group), ".1f")

    return [
        ("µs a lead", lambda run: format_value(run.total_cpu_us)),
        ("beyond idle", lambda run: format_value(compute_beyond_idle(run, runs))),
        *((f"{group} µs", show_us(group)) for group in GROUPS),
        *((f"{group} %", show_percent(group)) for group in (*GROUPS, "others")),
    ]


def show_catch_up(run: Run) -> str:
    return f"{run.catch_up_s:.2f}" if run.has_caught_up else f"[red]> {run.catch_up_s:.0f}[/]"


def show_growth(run: Run, count: int = 4) -> str:
    """The tables that grow most."""
    if not run.changes:
        return ""
    return ", ".join(
        f"{name} {(size.table + size.index) / run.changes:,.0f}"
        for name, size in list(run.sizes.items())[:count]
    )


RATES: Sequence[Column] = (
    ("leads", lambda run: f"{run.changes:,}"),
    ("leads/s", lambda run: format_value(run.per_second, ",.1f")),
    ("until all have read", lambda run: format_value(run.sustained, ",.1f")),
    ("failures", lambda run: f"[red]{run.failures:,}[/]" if run.failures else ""),
    ("lag at the end, s", lambda run: format_value(max(run.lag_s.values(), default=None), ".3f")),
    ("reader", lambda run: max(run.lag_s, key=run.lag_s.__getitem__, default="")),
    ("catch-up, s", show_catch_up),
)
PER_LEAD: Sequence[Column] = (
    ("statements", lambda run: format_value(run.calls, ".2f") + ("" if run.changes else " a s")),
    ("window reads", lambda run: format_value(run.window_reads, ".3f")),
    ("planning µs", lambda run: format_value(run.plan_us)),
    ("execution µs", lambda run: format_value(run.exec_us)),
    ("table B", lambda run: format_value(run.table_bytes)),
    ("index B", lambda run: format_value(run.index_bytes)),
    ("WAL B", lambda run: format_value(run.wal)),
    ("largest growth, B", show_growth),
)


def list_latency_columns() -> list[Column]:
    def show(name: str) -> Callable[[Run], str]:
        return lambda run: format_latency(run.latencies.get(name))

    return [(name if name == "request" else f"→ {name}", show(name)) for name in LATENCIES]


def format_latency(latency: Latency | None) -> str:
    return f"{latency.p50_ms:,.1f} / {latency.p99_ms:,.1f}" if latency else ""


def format_value(value: float | None, digits: str = ",.0f") -> str:
    """The value; empty if there is none."""
    return "" if value is None else format(value, digits)


def make_statement_table(run: Run) -> Table:
    """The statements that took most time in a run: calls and µs a lead, or a second if idle."""
    unit, divisor = ("a lead", run.changes) if run.changes else ("a second", run.seconds)
    table = Table(title=f"Statements of {name_run(run)}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("statement", no_wrap=True)
    for name in (f"calls {unit}", f"rows {unit}", f"planning µs {unit}", f"execution µs {unit}",
                 "µs a call", "planned"):  # fmt: skip
        table.add_column(name, justify="right")
    for top_level in (True, False):
        for each in choose_top(run.statements, top_level):
            table.add_row(
                each.name if top_level else f"  inside: {each.name}",
                f"{each.calls / divisor:.3f}",
                f"{each.rows / divisor:.2f}",
                f"{each.plan_ms / divisor * 1000:,.1f}",
                f"{each.exec_ms / divisor * 1000:,.1f}",
                f"{each.total_ms / each.calls * 1000:,.0f}" if each.calls else "",
                f"{each.plans / each.calls:.0%}" if each.calls else "",
            )
    return table


def make_profile_table(run: Run, process: str, functions: Sequence[FunctionTime]) -> Table:
    """The functions with the most own time: percent of the process's time, and µs a lead."""
    table = Table(
        title=f"Python of the {process}, {name_run(run)}", title_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("function", no_wrap=True)
    for name in ("own %", "with callees %", "own µs a lead"):
        table.add_column(name, justify="right")
    cost_us = run.cpu_us.get(process)
    for each in functions:
        own_us = "" if cost_us is None else f"{each.own * cost_us:,.1f}"
        table.add_row(each.name, f"{each.own:.1%}", f"{each.total:.1%}", own_us)
    return table
