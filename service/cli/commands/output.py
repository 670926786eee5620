"""Prints rows: a table on a terminal, tab-separated lines behind a pipe, or JSON."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

FOLDED = {"name", "routes"}
_SECONDS = re.compile(r"(?<=T\d\d:\d\d):\d\d(?:\.\d+)?Z$")
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Prints the columns of each row, or with `as_json` all of its fields."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, default=str, ensure_ascii=False))
    elif sys.stdout.isatty():
        _print_table(rows, columns)
    else:
        for row in rows:
            typer.echo("\t".join(_to_cell(row[column]) for column in columns))


def describe_count(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun, such as `1 webhook` or `2 deliveries`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Prints a table; one line per cell if the table does not fit. Only FOLDED columns wrap."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        is_folded = column in FOLDED
        table.add_column(
            column, overflow="fold", no_wrap=not is_folded, min_width=8 if is_folded else None
        )
    for row in rows:
        table.add_row(*(Text(_shorten(_to_cell(row[column]))) for column in columns))
    unbounded = console.options.update(width=10_000)
    if Measurement.get(console, unbounded, table).minimum <= console.width:
        console.print(table)
        return
    width = max(map(len, columns))
    for row in rows:
        for column in columns:
            typer.echo(f"{column:<{width}}  {_to_cell(row[column])}")
        typer.echo()


def _shorten(cell: str) -> str:
    """Cuts a time to the minute; returns other cells unchanged."""
    return _SECONDS.sub("Z", cell)


def _to_cell(value: object) -> str:
    """The text of a cell, without tabs, line breaks and control characters."""
    text = "-" if value is None else str(value)
    return "".join(character if character.isprintable() else " " for character in text)
