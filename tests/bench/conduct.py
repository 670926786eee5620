"""Conducts a run: checks that every route answers, then runs rounds of all steps in turns."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from tests.bench.load.idle import measure_idle
from tests.bench.load.memory import watch_memory
from tests.bench.load.pgbench import find_best_clients, run_pgbench
from tests.bench.load.wrk import Load, choose_think, run_wrk
from tests.bench.output.progress import Tell
from tests.bench.plan import (
    IDLE,
    WORKLOADS,
    Contestant,
    Idle,
    Run,
    Step,
    Workload,
    choose_workloads,
    find_workload,
    order_rounds,
    plan_capacity,
    plan_half,
    plan_single,
)
from tests.bench.programs import LoadError
from tests.bench.routes import UnservedError, count_matches, find_paths
from tests.bench.stage import Stage
from tests.bench.targets import Targets, start_targets, start_workers

WARM_UP_S = 1.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command line, as they are written into the results."""

    rounds: int
    seconds: float
    sizes: list[int]
    only: list[str]
    connections: int
    with_workers: bool
    settings: dict[str, str]


@dataclass
class Bench:
    """One run of the bench."""

    options: Options
    stage: Stage
    tell: Tell
    targets: Targets = field(default_factory=dict)
    paths: dict[tuple[str, Contestant, int], list[str]] = field(default_factory=dict)
    """By workload, contestant and size; a step without an entry is left out."""
    clients: dict[str, int] = field(default_factory=dict)
    """pgbench's best number of clients, by workload."""
    runs: list[Run] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    total: int = 0


async def run_bench(options: Options, stage: Stage, tell: Tell) -> Bench:
    """Runs the whole bench, from the first server to the last round."""
    bench = Bench(options, stage, tell)
    workloads = choose_workloads(options.only)
    sizes = options.sizes
    capacity = plan_capacity(workloads, sizes)
    half, single = plan_half(workloads, sizes), plan_single(workloads, sizes)
    wanted = {(step.contestant, step.leads): None for step in capacity}
    bench.targets = await start_targets(stage, wanted)
    if options.with_workers:
        for size in sizes:
            start_workers(stage, stage.databases[size])
    if not options.only or IDLE in options.only:
        bench.idle = await measure_idle(stage.databases[sizes[0]], options.rounds)
    await prepare(bench, capacity)
    bench.total = sum(is_possible(bench, step) for step in (*capacity, *half, *single))
    bench.total *= options.rounds
    # Writes come last, so that reads see the table as it was filled.
    writing = {workload.name for workload in WORKLOADS if workload.writes}
    await run_rounds(bench, single)
    await run_rounds(bench, [step for step in capacity if step.workload not in writing])
    await run_rounds(bench, half)
    await run_rounds(bench, [step for step in capacity if step.workload in writing])
    return bench


async def prepare(bench: Bench, steps: Iterable[Step]) -> None:
    """Tries every step once and warms its server up; a step that fails is left out."""
    for step in steps:
        where = (step.workload, step.contestant, step.leads)
        bench.tell(f"trying {describe(step)}", 0, 0)
        try:
            if step.contestant == "pgbench":
                await _prepare_pgbench(bench, step)
                bench.paths[where] = []
            elif (step.contestant, step.leads) in bench.targets:
                bench.paths[where] = await _prepare_target(bench, step)
        except UnservedError as error:
            bench.stage.note(f"Left out: {describe(step)}, as {error}.")
        except LoadError as error:
            bench.stage.note(f"Left out: {describe(step)}. {error}")


async def _prepare_pgbench(bench: Bench, step: Step) -> None:
    database = bench.stage.databases[step.leads]
    best = await find_best_clients(
        step.workload, database.dsn, tenant=database.tenant_id, leads=step.leads
    )
    bench.clients[step.workload] = best
    bench.stage.note(f"pgbench does most of {step.workload} with {best} clients.")


async def _prepare_target(bench: Bench, step: Step) -> list[str]:
    workload = find_workload(step.workload)
    target = bench.targets[step.contestant, step.leads]
    if step.contestant == "empty-1":
        paths = []
    else:
        paths = await find_paths(workload, target.server)
    if workload.name.startswith("search"):
        matches = await count_matches(target.server, paths)
        bench.stage.note(
            f"{workload.title}: words with {min(matches):,} to {max(matches):,} matches "
            f"in {step.leads:,} leads."
        )
    await run_wrk(_make_load(bench, step, paths, WARM_UP_S, bench.options.connections))
    return paths


def is_possible(bench: Bench, step: Step) -> bool:
    return (step.workload, step.contestant, step.leads) in bench.paths


async def run_rounds(bench: Bench, steps: Sequence[Step]) -> None:
    possible = [step for step in steps if is_possible(bench, step)]
    for number, step in order_rounds(possible, bench.options.rounds):
        bench.tell(f"round {number}: {describe(step)}", len(bench.runs), bench.total)
        if step.contestant == "pgbench":
            run = await _run_pgbench(bench, step, number)
        else:
            run = await _run_target(bench, step, number)
        bench.runs.append(run)
        if run.failures:
            bench.stage.note(f"{describe(step)}: {run.failures} failures in round {number}.")


async def _run_pgbench(bench: Bench, step: Step, number: int) -> Run:
    database = bench.stage.databases[step.leads]
    result = await run_pgbench(
        step.workload, database.dsn, tenant=database.tenant_id, leads=step.leads,
        clients=bench.clients[step.workload], seconds=bench.options.seconds,
    )  # fmt: skip
    return Run(
        act=step.act, workload=step.workload, contestant=step.contestant, leads=step.leads,
        round=number, per_second=result.per_second, failures=result.failures,
    )  # fmt: skip


async def _run_target(bench: Bench, step: Step, number: int) -> Run:
    paths = bench.paths[step.workload, step.contestant, step.leads]
    connections = 1 if step.act == "single" else bench.options.connections
    think_ms = 0.0
    if step.act == "half":
        think_ms = choose_think(connections, 0.5 * find_capacity(bench, step.workload))
    load = _make_load(bench, step, paths, bench.options.seconds, connections, think_ms)
    async with watch_memory(bench.targets[step.contestant, step.leads].child.pid) as peak:
        result = await run_wrk(load)
    return Run(
        act=step.act, workload=step.workload, contestant=step.contestant, leads=step.leads,
        round=number, per_second=result.per_second, failures=result.failures,
        p50_ms=result.p50_us / 1000, p90_ms=result.p90_us / 1000, p99_ms=result.p99_us / 1000,
        max_ms=result.max_us / 1000, rss_mib=peak.rss_mib,
    )  # fmt: skip


def find_capacity(bench: Bench, workload: str) -> float:
    """The service's median requests per second, at the number of leads where it is lowest.

    The "half" runs of all sizes are paced by this value, so that they get the same load.
    """
    by_size: dict[int, list[float]] = {}
    for run in bench.runs:
        if (run.act, run.workload, run.contestant) == ("capacity", workload, "service-1"):
            by_size.setdefault(run.leads, []).append(run.per_second)
    return min(statistics.median(rates) for rates in by_size.values())


def describe(step: Step) -> str:
    workload: Workload = find_workload(step.workload)
    act = "" if step.act == "capacity" else f", {step.act}"
    return f"{workload.title}, {step.contestant} at {step.leads:,} leads{act}"


def _make_load(
    bench: Bench,
    step: Step,
    paths: Sequence[str],
    seconds: float,
    connections: int,
    think_ms: float = 0.0,
) -> Load:
    target = bench.targets[step.contestant, step.leads]
    return Load(
        url=target.url, key=target.database.key, kind=find_workload(step.workload).kind,
        leads=step.leads, seconds=seconds, connections=connections, paths=paths,
        think_ms=think_ms,
    )  # fmt: skip
