"""Measures webhook delivery: `make bench-webhooks`, or `python -m tests.bench.webhooks --help`.

Everything runs on this machine: PostgreSQL (durable), Valkey, one dispatcher or a whole worker, and
a receiver. Each figure is the median of the runs, with their range. Delays are from an event's
createdAt to the 2xx that was sent back.
"""

import asyncio
import statistics
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from tests.bench.report import make_console
from tests.bench.results import look_around
from tests.bench.webhooks.measure import (
    ENDPOINTS,
    RATE,
    TENANTS,
    Delay,
    Drain,
    measure_claim,
    measure_delay,
    measure_drain,
    measure_peak,
)
from tests.bench.webhooks.stage import find_percentile, open_stage

Row = tuple[str, Sequence[float], str, str]
"""What was measured, the samples, their unit, and what is wanted."""


async def measure(count: int, pending: int, seconds: float, runs: int) -> list[Row]:
    async with open_stage() as stage:
        rows = report_drains([await measure_drain(stage, count) for _ in range(runs)])
        peaks = [await measure_peak(stage, pending, count) for _ in range(runs)]
        rows.append((f"memory, at most, with {pending:,} pending", peaks, "MB", "< 150"))
        for hung in (0, 1):
            found = [await measure_delay(stage, seconds, hung) for _ in range(runs)]
            rows += report_delays(found, hung)
        for number, wanted in ((10_000, ""), (pending, "at most 1.3 times that")):
            times = [await measure_claim(stage, number) for _ in range(runs)]
            rows.append((f"claim of 400 among {number:,}", times, "ms", wanted))
    return rows


def report_drains(drains: list[Drain]) -> list[Row]:
    title = f"drain of {ENDPOINTS} endpoints by one dispatcher"
    rows: list[Row] = [
        (title, [drain.per_second for drain in drains], "per second", "≥ 3,000, aim 6,000"),
        ("  its memory, at most", [drain.peak_mb for drain in drains], "MB", "< 150"),
        ("  connections it opened", [float(drain.connections) for drain in drains], "", ""),
    ]
    costs = {name: [drain.cost_us[name] for drain in drains] for name in drains[0].cost_us}
    return rows + [(f"  CPU of {name}", costs[name], "µs each", "") for name in costs]


def report_delays(found: list[Delay], hung: int) -> list[Row]:
    wanted = {50: "< 30", 99: "< 150"} if hung == 0 else {99: "≤ 250"}
    title = f"{RATE} leads/s, {hung} of {TENANTS} endpoints hung, "
    rows: list[Row] = []
    for percent in (50, 95, 99):
        samples = [find_percentile(delay.delays_ms, percent) for delay in found]
        rows.append((f"{title}p{percent}", samples, "ms", wanted.get(percent, "")))
    rows.append(("  memory of the worker, at most", [delay.peak_mb for delay in found], "MB", ""))
    for name in found[0].processors:
        shares = [delay.processors[name] * 100 for delay in found]
        rows.append((f"  CPU of {name}", shares, "% of one", ""))
    return rows


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
        float, typer.Option(help="How long events are written; a slice is 30 s.")
    ] = 40.0,
    runs: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Prints the figures."""
    scene, console = look_around(), make_console()
    rows = asyncio.run(measure(count - count % ENDPOINTS, pending, seconds, runs))
    console.print(make_table(rows))
    console.print(
        f"{scene.cores} cores shared by all, {scene.memory_gib:g} GiB, {scene.processor}; "
        f"load {scene.load:g} before the start; {runs} runs; commit {scene.commit}.",
        highlight=False,
    )


if __name__ == "__main__":
    typer.run(main)
