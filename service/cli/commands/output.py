"""Prints rows: a table on a terminal, tab-separated lines behind a pipe, or JSON."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

WRAPPED = {"name", "routes", "found", "advice"}
"""Columns whose cells may continue on the next line; all other cells stay whole."""
DROPPED_FIRST = ("createdAt", "last4", "tenants", "lastUsedAt", "expiresAt", "mode", "activeKeys")
"""Columns that a narrow table leaves out, in this order."""
TEXT_WIDTH, WORD_WIDTH = 18, 40
"""The least width of a text in a column of WRAPPED, and its longest word that is kept whole, such
as the name of a plan."""
GAP = 2
_SECONDS = re.compile(r"(?<=T\d\d:\d\d):\d\d(?:\.\d+)?Z$")
_TIME = re.compile(r"^(\d{4}-\d\d-\d\d)T\S+Z$")
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Cells = list[dict[str, str]]


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
    """Prints a table that fits the terminal: times become dates, then columns are left out.

    If not even that fits, each cell gets a line of its own.
    """
    from rich.console import Console

    console = Console(highlight=False)
    cells = [{column: _to_cell(row[column]) for column in columns} for row in rows]
    for shown_cells, shown in _list_layouts(cells, columns):
        if _measure(shown_cells, shown) <= console.width:
            console.print(_make_table(shown_cells, shown))
            if missing := [column for column in columns if column not in shown]:
                typer.echo(
                    f"Not shown at this width, but by --json: {', '.join(missing)}.", err=True
                )
            return
    width = max(map(len, columns))
    for row in cells:
        for column in columns:
            typer.echo(f"{column:<{width}}  {row[column]}")
        typer.echo()


def _list_layouts(cells: Cells, columns: Sequence[str]) -> Iterator[tuple[Cells, list[str]]]:
    """Layouts from wide to narrow: the cells and the columns that are shown."""
    dates = _change(cells, _TIME, r"\1")
    yield _change(cells, _SECONDS, "Z"), list(columns)
    yield dates, list(columns)
    shown = list(columns)
    for column in DROPPED_FIRST:
        if column in shown:
            shown.remove(column)
            yield dates, list(shown)


def _change(cells: Cells, pattern: re.Pattern[str], text: str) -> Cells:
    return [{column: pattern.sub(text, cell) for column, cell in row.items()} for row in cells]


def _measure(cells: Cells, columns: Sequence[str]) -> int:
    """The least width of the table."""
    return sum(_measure_column(cells, column) for column in columns) + GAP * (len(columns) - 1)


def _measure_column(cells: Cells, column: str) -> int:
    """The width of the widest cell, or less if the column may wrap."""
    from rich.cells import cell_len

    texts = [row[column] for row in cells]
    if column not in WRAPPED:
        return max([len(column), *map(cell_len, texts)])
    words = [min(cell_len(word), WORD_WIDTH) for text in texts for word in text.split()]
    widest = max(map(cell_len, texts), default=0)
    return max(len(column), min(widest, max([TEXT_WIDTH, *words])))


def _make_table(cells: Cells, columns: Sequence[str]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for column in columns:
        table.add_column(
            column,
            overflow="fold",
            no_wrap=column not in WRAPPED,
            min_width=_measure_column(cells, column),
        )
    for row in cells:
        table.add_row(*(Text(row[column]) for column in columns))
    return table


def _to_cell(value: object) -> str:
    """The text of a cell, without tabs, line breaks and control characters."""
    text = "-" if value is None else str(value)
    return "".join(character if character.isprintable() else " " for character in text)
