"""The table and the file of a comparison of two trees."""

import statistics
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.bench.against.pairs import Pair, Verdict
from tests.bench.output.results import Scene, write_results

COLOURS: dict[Verdict, str] = {
    "better": "bold green",
    "same": "green",
    "worse": "red",
    "unclear": "yellow",
}


class Comparison(msgspec.Struct, kw_only=True):
    """The file's content."""

    what: str
    at: datetime
    scene: Scene
    against: str
    """The git reference of the other tree, as given."""
    their_commit: str
    options: dict[str, Any]
    notes: list[str]
    pairs: list[Pair]


def publish(comparison: Comparison, folder: Path, console: Console) -> None:
    """Shows the comparison, and writes it beside the other results."""
    scene = comparison.scene
    console.print(make_pair_table(comparison.pairs, comparison.against))
    console.print(
        f"Ours is {scene.commit}, theirs {comparison.their_commit}. {scene.cores} cores shared "
        f"with the load, {scene.processor}; load {scene.load:g} before the start.",
        highlight=False,
    )
    for note in comparison.notes:
        console.print(f"· {note}", highlight=False, markup=False)
    path = write_results(comparison.what, comparison.at, comparison, folder)
    console.print(f"Written: {path}")


def make_pair_table(pairs: Sequence[Pair], against: str, title: str = "This tree") -> Table:
    title = f"{title} against {against}; a ratio is ours ÷ theirs"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("what")
    table.add_column("unit", no_wrap=True)
    for name in ("ours", "theirs", "median ratio", "low to high"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ratio of each round")
    table.add_column("")
    for pair in pairs:
        ratio = pair.ratio
        table.add_row(
            pair.what,
            pair.unit,
            format_median(pair.ours),
            format_median(pair.theirs),
            f"{ratio.median:.3f}" if ratio else "",
            f"{ratio.low:.2f} to {ratio.high:.2f}" if ratio else "",
            " ".join(f"{each:.2f}" for each in pair.ratios),
            f"[{COLOURS[pair.verdict]}]{pair.verdict}[/]"
            if ratio and pair.more is not None
            else "",
        )
    return table


def format_median(values: Sequence[float]) -> str:
    """The median; empty if there are no values."""
    return format_number(statistics.median(values)) if values else ""


def format_number(value: float) -> str:
    """Formats a value with as many digits as a reader compares."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
