"""The parts of `make bench-webhooks`; each returns the rows of one run.

`--against` runs this file once in each tree, with the tree's root as PYTHONPATH: the imports below
are that tree's own code. Each line on standard input is a request for a part, as JSON; the reply is
a line with the part's rows.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

import service
from tests.bench.webhooks.measure import (
    ENDPOINTS,
    RATE,
    TENANTS,
    measure_claim,
    measure_delay,
    measure_drain,
    measure_peak,
)
from tests.bench.webhooks.stage import Stage, find_percentile, open_stage

Row = tuple[str, Sequence[float], str, str]
"""The title, the samples, their unit and the wanted value."""


class Amounts(msgspec.Struct, frozen=True):
    """The sizes of the measurements."""

    count: int
    """The number of deliveries to drain."""
    pending: int
    """The number of pending deliveries during claims."""
    seconds: float
    """The seconds for which leads are created."""


Part = Callable[[Stage, Amounts], Awaitable[list[Row]]]


async def run_drain(stage: Stage, amounts: Amounts) -> list[Row]:
    drain = await measure_drain(stage, amounts.count)
    title = f"drain of {ENDPOINTS} endpoints by one dispatcher"
    return [
        (title, [drain.per_second], "per second", "≥ 3,000, aim 6,000"),
        ("  its memory, at most", [drain.peak_mb], "MB", "< 150"),
        ("  connections it opened", [float(drain.connections)], "", ""),
        *((f"  CPU of {name}", [cost], "µs each", "") for name, cost in drain.cost_us.items()),
    ]


async def run_peak(stage: Stage, amounts: Amounts) -> list[Row]:
    peak = await measure_peak(stage, amounts.pending, amounts.count)
    return [(f"memory, at most, with {amounts.pending:,} pending", [peak], "MB", "< 150")]


async def run_delay(stage: Stage, amounts: Amounts) -> list[Row]:
    return await _run_delay(stage, amounts, 0, {50: "< 30", 99: "< 150"})


async def run_hung(stage: Stage, amounts: Amounts) -> list[Row]:
    return await _run_delay(stage, amounts, 1, {99: "≤ 250"})


async def _run_delay(
    stage: Stage, amounts: Amounts, hung: int, wanted: Mapping[int, str]
) -> list[Row]:
    delay = await measure_delay(stage, amounts.seconds, hung)
    title = f"{RATE} leads/s, {hung} of {TENANTS} endpoints hung"
    rows: list[Row] = [
        (f"{title}, p{percent}", [find_percentile(delay.delays_ms, percent)], "ms",
         wanted.get(percent, ""))
        for percent in (50, 95, 99)
    ]  # fmt: skip
    rows.append((f"  memory of the worker, at most, {hung} hung", [delay.peak_mb], "MB", ""))
    for name, share in delay.processors.items():
        rows.append((f"  CPU of {name}, {hung} hung", [share * 100], "% of one", ""))
    return rows


async def run_claim(stage: Stage, amounts: Amounts) -> list[Row]:
    rows: list[Row] = []
    for number, wanted in ((10_000, ""), (amounts.pending, "at most 1.3 times that")):
        took_ms = await measure_claim(stage, number)
        rows.append((f"claim of 400 among {number:,}", [took_ms], "ms", wanted))
    return rows


PARTS: Mapping[str, Part] = {
    "drain": run_drain,
    "peak": run_peak,
    "delay": run_delay,
    "hung": run_hung,
    "claim": run_claim,
}


class Request(msgspec.Struct):
    part: str
    amounts: Amounts


async def main() -> None:
    loop = asyncio.get_running_loop()
    async with open_stage() as stage:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            request = msgspec.json.decode(line, type=Request)
            rows = await PARTS[request.part](stage, request.amounts)
            answer = {"root": service.__path__[0], "rows": rows}
            print(msgspec.json.encode(answer).decode(), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
