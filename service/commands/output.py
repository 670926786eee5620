"""Rows for whoever reads: a table on a terminal, tab-separated lines behind a pipe, or JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Prints the columns of each row; JSON has all fields."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, default=str, ensure_ascii=False))
    elif sys.stdout.isatty():
        _print_table(rows, columns)
    else:
        for row in rows:
            typer.echo("\t".join(_to_cell(row[column]) for column in columns))


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_to_cell(row[column])) for column in columns))
    Console().print(table)


def _to_cell(value: object) -> str:
    """One cell: no tab, line break or terminal control of somebody's making."""
    text = "-" if value is None else str(value)
    return "".join(character if character.isprintable() else " " for character in text)
