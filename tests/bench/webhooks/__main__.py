"""Measures webhook delivery: `make bench-webhooks`, or `python -m tests.bench.webhooks --help`.

Everything runs on this machine: PostgreSQL (durable), Valkey, one dispatcher or a whole worker, and
a receiver. Each figure is the median of the runs, with their range. A delay is the time from an
event's createdAt to the 2xx response.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from tests.bench.against import deliveries
from tests.bench.against.report import Comparison, publish
from tests.bench.against.session import open_sides
from tests.bench.output.endings import explain_end
from tests.bench.output.report import make_console
from tests.bench.output.results import FOLDER, look_around
from tests.bench.webhooks.measure import ENDPOINTS
from tests.bench.webhooks.parts import PARTS, Amounts, Row
from tests.bench.webhooks.stage import open_stage

console = make_console()


async def measure(parts: Sequence[str], amounts: Amounts, runs: int) -> None:
    scene, rows = look_around(), list[Row]()
    async with open_stage() as stage:
        for part in parts:
            found = [await PARTS[part](stage, amounts) for _ in range(runs)]
            rows += merge_runs(found)
    console.print(make_table(rows))
    console.print(
        f"{scene.cores} cores shared by all, {scene.memory_gib:g} GiB, {scene.processor}; "
        f"load {scene.load:g} before the start; {runs} runs; commit {scene.commit}.",
        highlight=False,
    )


def merge_runs(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of a part, each with the samples of all runs."""
    return [
        (what, [sample for row in same for sample in row[1]], unit, wanted)
        for same in zip(*runs, strict=True)
        for what, _, unit, wanted in same[:1]
    ]


async def measure_against(
    ref: str, parts: Sequence[str], amounts: Amounts, runs: int, results: Path
) -> None:
    at, scene = datetime.now(UTC), look_around()
    with tempfile.TemporaryDirectory(prefix="leadlog-bench-") as data:
        async with open_sides(ref, deliveries.SCRIPT, Path(data), console.print) as sides:
            pairs = await deliveries.compare_deliveries(sides, parts, amounts, runs)
    comparison = Comparison(
        what="webhooks-against", at=at, scene=scene, against=ref,
        their_commit=sides.theirs.tree.commit,
        options={"parts": parts, "runs": runs, **msgspec.structs.asdict(amounts)},
        notes=[], pairs=pairs.list_all(),
    )  # fmt: skip
    publish(comparison, results, console)


def make_table(rows: Sequence[Row]) -> Table:
    table = Table(title="Webhook delivery", title_justify="left")
    table.add_column("what", no_wrap=True)
    for name in ("median", "range"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("wanted", no_wrap=True)
    for what, samples, unit, wanted in rows:
        digits = 0 if statistics.median(samples) >= 100 else 1
        low, high = (f"{edge:,.{digits}f}" for edge in (min(samples), max(samples)))
        middle = f"{statistics.median(samples):,.{digits}f}"
        table.add_row(what, middle, f"{low} to {high}", unit, wanted)
    return table


def main(
    count: Annotated[int, typer.Option(help="Deliveries to drain.")] = 60_000,
    pending: Annotated[int, typer.Option(help="Deliveries pending for the claim.")] = 1_000_000,
    seconds: Annotated[
        float, typer.Option(help="How long events are written; a job is 30 s.")
    ] = 40.0,
    runs: Annotated[int, typer.Option(min=1)] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this: {', '.join(PARTS)}; again for more.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Measure this tree against another commit of it, in turns."
        ),
    ] = None,
    results: Annotated[
        Path, typer.Option(help="Folder for the results; of --against only.")
    ] = FOLDER,
) -> None:
    """Measure webhook delivery and print the figures."""
    amounts = Amounts(count - count % ENDPOINTS, pending, seconds)
    parts = check_parts(only or list(PARTS))
    with explain_end("bench-webhooks", console):
        if against is None:
            asyncio.run(measure(parts, amounts, runs))
        else:
            asyncio.run(measure_against(against, parts, amounts, runs, results))


def check_parts(names: list[str]) -> list[str]:
    for name in names:
        if name not in PARTS:
            raise typer.BadParameter(f"there is no {name}: choose one of {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    typer.run(main)
