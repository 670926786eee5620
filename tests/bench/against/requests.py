"""`make bench ARGS='--against REF'`: both trees' `leadlog serve` under the same load."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from tests.bench.against.pairs import Pairs
from tests.bench.against.session import Session, Sides
from tests.bench.conduct import WARM_UP_S, Options
from tests.bench.load.wrk import Load, WrkResult, run_wrk
from tests.bench.output.progress import Tell
from tests.bench.plan import Workload, choose_workloads
from tests.bench.programs import LoadError
from tests.bench.routes import find_paths
from tests.bench.targets import Server

SCRIPT = "tests/bench/servers.py"
SINGLE = ("get", "post")
"""Workloads that are also measured with one client that waits for each response."""


class Running(msgspec.Struct):
    """The reply of servers.py."""

    root: str
    servers: list[Server]


@dataclass(frozen=True)
class Step:
    """One workload at one size, for both trees."""

    act: Literal["capacity", "single"]
    workload: Workload
    leads: int

    @property
    def title(self) -> str:
        act = ", one client" if self.act == "single" else ""
        return f"{self.workload.title}{act}, {self.leads:,} leads"


@dataclass
class Bench:
    """One comparison."""

    options: Options
    sides: Sides
    tell: Tell
    servers: dict[tuple[Session, int], Server] = field(default_factory=dict)
    """By tree and number of leads."""
    paths: dict[tuple[Session, Step], list[str]] = field(default_factory=dict)
    pairs: Pairs = field(default_factory=Pairs)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The number of responses of 400 and above, by step and tree."""
    notes: list[str] = field(default_factory=list)


async def compare_requests(options: Options, sides: Sides, tell: Tell) -> Bench:
    """Starts both trees' servers, tries every workload once, then measures all rounds."""
    bench = Bench(options, sides, tell)
    tell("starting and filling both trees", 0, 0)
    await asyncio.gather(*(start_servers(bench, side) for side in sides))
    steps = [step for step in plan_steps(options) if await prepare(bench, step)]
    schedule = list(order_steps(steps, options.rounds))
    for done, (number, step) in enumerate(schedule):
        tell(f"round {number}: {step.title}", done, len(schedule))
        await measure(bench, step, number)
    for (title, tree), count in bench.failures.items():
        if count:
            bench.notes.append(f"{title}: {count:,} failures of {tree}, not counted above.")
    return bench


async def start_servers(bench: Bench, side: Session) -> None:
    options = bench.options
    answer = await side.ask(
        folder=str(side.folder), sizes=options.sizes, settings=options.settings,
        with_workers=options.with_workers,
    )  # fmt: skip
    running = msgspec.convert(answer, Running)
    if running.root != str(side.tree.root):
        raise LoadError(f"The tree {side.tree.name} ran the code of {running.root}.")
    for server in running.servers:
        bench.servers[side, server.leads] = server


def plan_steps(options: Options) -> Iterator[Step]:
    """Lists reads before writes, so that reads see the tables as they were filled."""
    for workload in sorted(choose_workloads(options.only), key=lambda each: each.writes):
        sizes = options.sizes if workload.grows else options.sizes[:1]
        if workload.name in SINGLE:
            yield Step("single", workload, sizes[0])
        for size in sizes:
            yield Step("capacity", workload, size)


def order_steps(steps: Sequence[Step], rounds: int) -> Iterator[tuple[int, Step]]:
    for writes in (False, True):
        for number in range(1, rounds + 1):
            yield from ((number, step) for step in steps if step.workload.writes is writes)


async def prepare(bench: Bench, step: Step) -> bool:
    """Asks both trees once and warms them up; False, with a note, if one does not answer."""
    bench.tell(f"trying {step.title}", 0, 0)
    for side in bench.sides:
        server = bench.servers[side, step.leads]
        try:
            bench.paths[side, step] = await find_paths(step.workload, server)
        except LoadError as error:
            bench.notes.append(f"Left out: {step.title}, as in {side.tree.name} {error}.")
            return False
        await load(bench, side, step, WARM_UP_S)
    return True


async def measure(bench: Bench, step: Step, number: int) -> None:
    """One round of a step: the same load on one tree, then on the other."""
    results = {}
    for side in bench.sides.in_turn(number):
        results[side] = result = await load(bench, side, step, bench.options.seconds)
        bench.failures[step.title, side.tree.name] += result.failures
    ours, theirs = (results[side] for side in bench.sides)
    add, title = bench.pairs.add, step.title
    if step.act == "capacity":
        add(title, "per second", more=True, ours=ours.per_second, theirs=theirs.per_second)
    else:
        add(title, "p50 µs", more=False, ours=ours.p50_us, theirs=theirs.p50_us)


async def load(bench: Bench, side: Session, step: Step, seconds: float) -> WrkResult:
    server = bench.servers[side, step.leads]
    connections = 1 if step.act == "single" else bench.options.connections
    return await run_wrk(
        Load(
            url=server.url, key=server.key, kind=step.workload.kind, leads=step.leads,
            seconds=seconds, connections=connections, paths=bench.paths[side, step],
        )
    )  # fmt: skip
