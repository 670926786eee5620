"""The workloads, their contestants and the order of the runs. Pure."""

from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import msgspec

Act = Literal["capacity", "half", "single"]
"""The full capacity, half of it with pauses, or one client alone."""
Kind = Literal["get", "paths", "patch", "post"]
"""How load.lua makes a request: `paths` takes one of a list, the others make their own."""
Contestant = Literal["service-1", "service-2", "peer-1", "empty-1", "pgbench"]
"""The number at the end is the number of processes."""


class Workload(msgspec.Struct, frozen=True):
    name: str
    title: str
    kind: Kind
    rivals: tuple[Contestant, ...]
    """The contestants at the smallest table; at larger tables only service-1 runs."""
    grows: bool = False
    """Whether it runs at every table size; the size should make no difference."""
    paced: bool = False
    """Whether its latency at half its capacity is a figure."""
    writes: bool = False


WORKLOADS = (
    Workload("get", "GET one", "get", ("service-1", "service-2", "peer-1", "empty-1", "pgbench"),
             grows=True),
    Workload("list", "list of 25", "paths", ("service-1", "service-2", "peer-1"),
             grows=True, paced=True),
    Workload("deep", "cursor page 10,000", "paths", ("service-1",), grows=True, paced=True),
    Workload("search_few", "search, few matches", "paths", ("service-1",),
             grows=True, paced=True),
    Workload("search_typo", "search, typos and parts of rare words", "paths", ("service-1",),
             grows=True, paced=True),
    Workload("search_many", "search, many matches", "paths", ("service-1",),
             grows=True, paced=True),
    Workload("patch", "PATCH", "patch", ("service-1", "service-2", "peer-1"), writes=True),
    Workload("post", "POST", "post", ("service-1", "service-2", "peer-1", "pgbench"),
             writes=True),
)  # fmt: skip
IDLE = "idle"
"""A measurement that is no workload: the time that batching adds to a single client's read."""
SINGLE_RIVALS: tuple[Contestant, ...] = ("service-1", "peer-1", "empty-1")


class Step(msgspec.Struct, frozen=True):
    """One run of a load program."""

    act: Act
    workload: str
    contestant: Contestant
    leads: int


class Run(msgspec.Struct, kw_only=True):
    """What one step measured. Latencies are None where the load program reports none."""

    act: Act
    workload: str
    contestant: Contestant
    leads: int
    round: int
    per_second: float
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    failures: int = 0
    """The number of responses of 400 and above, time-outs and lost connections."""
    rss_mib: float | None = None
    """The largest resident memory of any process of the contestant during the run."""


class Idle(msgspec.Struct, kw_only=True):
    """Medians of reads of one lead, one at a time, alternately direct and through a Batcher."""

    round: int
    direct_ms: float
    batched_ms: float


def find_workload(name: str) -> Workload:
    return next(workload for workload in WORKLOADS if workload.name == name)


def choose_workloads(only: Collection[str]) -> list[Workload]:
    """The workloads named in `only`, or all if it is empty."""
    return [workload for workload in WORKLOADS if not only or workload.name in only]


def plan_capacity(workloads: Sequence[Workload], sizes: Sequence[int]) -> list[Step]:
    """Every workload for all its rivals in succession, so that a slow minute hits all alike."""
    steps = []
    for workload in workloads:
        steps += [Step("capacity", workload.name, rival, sizes[0]) for rival in workload.rivals]
        if workload.grows:
            steps += [Step("capacity", workload.name, "service-1", size) for size in sizes[1:]]
    return steps


def plan_half(workloads: Sequence[Workload], sizes: Sequence[int]) -> list[Step]:
    """The steps that measure the latencies of paced workloads, at all sizes."""
    return [
        Step("half", workload.name, "service-1", size)
        for workload in workloads
        if workload.paced
        for size in sizes
    ]


def plan_single(workloads: Sequence[Workload], sizes: Sequence[int]) -> list[Step]:
    """The steps with one client that waits for each response, against an idle server."""
    names = {workload.name for workload in workloads}
    return [Step("single", "get", rival, sizes[0]) for rival in SINGLE_RIVALS if "get" in names]


def order_rounds(steps: Sequence[Step], rounds: int) -> Iterator[tuple[int, Step]]:
    """All steps once a round; each workload's first contestant changes from round to round."""
    for number in range(rounds):
        for name in dict.fromkeys(step.workload for step in steps):
            group = [step for step in steps if step.workload == name]
            turn = number % len(group)
            for step in group[turn:] + group[:turn]:
                yield number + 1, step
