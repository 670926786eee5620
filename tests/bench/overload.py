"""`python -m tests.bench.overload`: how a process behaves at twice its capacity.

wrk finds the capacity, then sends twice as many requests on many connections with pauses, like many
independent clients. At the same time the probe, a client of ours, sends requests at a fixed rate,
without waiting for responses, and records the status and the time of each response.
"""

import asyncio
import os
import secrets
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.supervisor import PROJECT
from tests.bench.__main__ import uvloop_runner
from tests.bench.fill import FEW
from tests.bench.load.wrk import Load, choose_think, run_wrk
from tests.bench.output.report import make_console
from tests.bench.plan import Kind
from tests.bench.stage import set_stage
from tests.bench.targets import Target, start_targets

PROBE_EVERY_S, PROBE_NICENESS = 0.01, -15
LEADS = 10_000
ASKED: dict[str, tuple[Kind, str]] = {
    "get": ("get", f"/v1/leads/lead_01J{1:023d}"),
    "post": ("post", "/v1/leads"),
    "list": ("paths", "/v1/leads?limit=25"),
    "search": ("paths", f"/v1/leads/search?q={FEW[0]}&limit=25"),
}
WANTED_S = 0.5
"""The wanted p99 of successful responses."""
console = make_console()


def overload(
    seconds: Annotated[float, typer.Option(min=2, help="Length of one run.")] = 8,
    connections: Annotated[int, typer.Option(min=1, help="wrk's, when it asks too much.")] = 1000,
    factor: Annotated[float, typer.Option(min=0.1, help="Times the capacity.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this: {', '.join(ASKED)}; again for more.")
    ] = None,
    env: Annotated[list[str] | None, typer.Option(help="A setting, NAME=VALUE.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where the database is made.")] = PROJECT / ".data",
) -> None:
    """Measure successes and refusals at a multiple of the capacity of one process."""
    settings = dict(pair.split("=", 1) for pair in env or [])
    with uvloop_runner() as runner:
        runner.run(_run(seconds, connections, factor, rounds, only or ASKED, settings, data_dir))


async def _run(
    seconds: float, connections: int, factor: float, rounds: int, names: Iterable[str],
    settings: dict[str, str], data_dir: Path,
) -> None:  # fmt: skip
    p99s: defaultdict[str, list[float]] = defaultdict(list)
    async with set_stage(prepare_folder(data_dir), [LEADS], settings, console.print) as stage:
        [target] = (await start_targets(stage, [("service-1", LEADS)])).values()
        for _ in range(rounds):
            for name in names:
                p99s[name].append(await _measure(target, name, seconds, connections, factor))
    console.print(f"{rounds} rounds, {connections} connections, {factor:g} times the capacity.")
    for name, found in p99s.items():
        middle = statistics.median(found)
        verdict = "reached" if middle < WANTED_S else "missed"
        console.print(
            f"{name}: p99 of what is answered well {middle * 1000:.0f} ms "
            f"({min(found) * 1000:.0f} to {max(found) * 1000:.0f}), wanted < 500 ms: {verdict}"
        )


async def _measure(
    target: Target, name: str, seconds: float, connections: int, factor: float
) -> float:
    """The p99 of the probe's successful responses, in seconds."""
    kind, path = ASKED[name]

    def load(count: int, think_ms: float) -> Load:
        return Load(url=target.url, key=target.database.key, kind=kind, leads=LEADS, paths=[path],
                    seconds=seconds, connections=count, think_ms=think_ms)  # fmt: skip

    capacity = (await run_wrk(load(64, 0))).per_second
    think_ms = choose_think(connections, capacity * factor)
    flood = asyncio.create_task(run_wrk(load(connections, think_ms)))
    await asyncio.sleep(1)  # wrk opens its connections
    answers = await _probe(target, path, seconds - 2, creates=name == "post")
    result = await flood
    good = sorted(s for status, s in answers if status < 300)
    refused = sorted(s for status, s in answers if status == 503)
    offered = result.requests / result.duration_us * 1e6
    console.print(
        f"{name}: capacity {capacity:,.0f}/s; asked {offered:,.0f}/s, answered well "
        f"{result.per_second:,.0f}/s, wrk's p99 of all {result.p99_us / 1000:.0f} ms; "
        f"probe: {_tell(good)} of 2xx, {_tell(refused)} of 503, "
        f"{len(answers) - len(good) - len(refused)} others"
    )
    return _find_p99(good)


def _tell(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return f"{len(seconds)} answers"
    p50, p99 = statistics.median(seconds), _find_p99(seconds)
    return f"{len(seconds)} answers, p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"


def _find_p99(seconds: list[float]) -> float:
    if len(seconds) < 2:
        return float("nan")
    return statistics.quantiles(seconds, n=100, method="inclusive")[98]


async def _probe(
    target: Target, path: str, seconds: float, *, creates: bool
) -> list[tuple[int, float]]:
    """The status and the seconds of each response; the status is -1 if there was none."""
    headers = {"Authorization": f"Bearer {target.database.key}"}
    with suppress(PermissionError):  # else it would measure its own delay on a busy machine
        os.setpriority(os.PRIO_PROCESS, 0, PROBE_NICENESS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(target.url, headers=headers, connector=connector) as session:
        end, asked = time.monotonic() + seconds, []
        while time.monotonic() < end:
            asked.append(asyncio.create_task(_ask(session, path, creates=creates)))
            await asyncio.sleep(PROBE_EVERY_S)
        return await asyncio.gather(*asked)


async def _ask(session: aiohttp.ClientSession, path: str, *, creates: bool) -> tuple[int, float]:
    began = time.monotonic()
    sent: dict[str, Any] = {}
    if creates:
        sent["json"] = {"email": f"probe.{secrets.token_hex(8)}@acme-corp.com"}
    try:
        async with session.request("POST" if creates else "GET", path, **sent) as response:
            await response.read()
            return response.status, time.monotonic() - began
    except (aiohttp.ClientError, TimeoutError):
        return -1, time.monotonic() - began


if __name__ == "__main__":
    typer.run(overload)
