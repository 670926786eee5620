"""The tables at the end of a run."""

from rich.console import Console
from rich.table import Table

from tests.bench.output.figures import Figure, Row, Spread
from tests.bench.output.results import Results
from tests.bench.plan import Act, find_workload

ACTS: dict[Act, str] = {
    "single": "One client, one request at a time",
    "capacity": "As much as it can",
    "half": "Half of that, in irregular pauses",
}
COLOURS = {"aim": "bold green", "reached": "green", "missed": "red", "not measured": "dim"}


MIN_WIDTH = 140


def make_console() -> Console:
    """A console of the terminal's width; MIN_WIDTH, as wide as the tables, without a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=MIN_WIDTH)


def print_report(results: Results, console: Console) -> None:
    """Prints rates and latencies, then the figures, then the circumstances and the notes."""
    for act, title in ACTS.items():
        rows = [row for row in results.rows if row.act == act]
        if rows:
            console.print(make_rate_table(title, rows))
    console.print(make_figure_table(results.figures))
    scene, options = results.scene, results.options
    workers = "running" if options.with_workers else "not running"
    console.print(
        f"{scene.cores} cores shared with the load, {scene.memory_gib:g} GiB, "
        f"{scene.processor}; load {scene.load:g} before the start. "
        f"{options.rounds} rounds of {options.seconds:g} s, {options.connections} connections, "
        f"workers {workers}.",
        highlight=False,
    )
    for note in results.notes:
        console.print(f"· {note}", highlight=False, markup=False)


def make_rate_table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("who", no_wrap=True)
    for name in ("leads", "per second", "p50 ms", "p99 ms", "MiB", "failures"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for row in rows:
        if last not in {None, row.workload}:
            table.add_section()
        last = row.workload
        table.add_row(
            find_workload(row.workload).title,
            row.contestant,
            f"{row.leads:,}",
            format_spread(row.per_second, ",.0f"),
            f"{row.p50_ms.median:.2f}" if row.p50_ms else "",
            f"{row.p99_ms.median:.2f}" if row.p99_ms else "",
            f"{row.rss_mib.high:.0f}" if row.rss_mib else "",
            f"[red]{row.failures}[/red]" if row.failures else "",
        )
    return table


def make_figure_table(figures: list[Figure]) -> Table:
    table = Table(title="Figures", title_justify="left")
    table.add_column("what")
    for name in ("measured", "at least", "aim"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for figure in figures:
        sign = "" if figure.more else "≤ "
        unit = figure.unit and f" {figure.unit}"
        digits = ",.2f" if figure.at_least < 10 else ",.1f"
        table.add_row(
            figure.title,
            format_spread(figure.spread, digits) + (unit if figure.spread else ""),
            f"{sign}{figure.at_least:g}{unit}",
            f"{sign}{figure.aim:g}{unit}",
            f"[{COLOURS[figure.verdict]}]{figure.verdict}[/]",
        )
    return table


def format_spread(spread: Spread | None, digits: str) -> str:
    """`median (low to high)`."""
    if spread is None:
        return ""
    low, high = format(spread.low, digits), format(spread.high, digits)
    return f"{spread.median:{digits}} ({low} to {high})"
