"""What is measured against whom, and in which order. Pure."""

from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import msgspec

Act = Literal["capacity", "half", "single"]
"""As much as it can, half of that with pauses, one client alone."""
Kind = Literal["get", "paths", "patch", "post"]
"""How load.lua makes a request: paths takes one of a list, the others make their own."""
Contestant = Literal["service-1", "service-2", "peer-1", "empty-1", "pgbench"]
"""The number is that of its processes."""


class Workload(msgspec.Struct, frozen=True):
    name: str
    title: str
    kind: Kind
    rivals: tuple[Contestant, ...]
    """Who meets it at the smallest table; at larger ones only service-1 does."""
    grows: bool = False
    """Whether the size of the table should make no difference to it, and is tried."""
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
"""Beside the workloads: what batching adds to a direct statement when nobody else asks."""
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
    """Answers of 400 and above, time-outs and lost connections."""
    rss_mib: float | None = None
    """The largest resident memory of any of its processes while it ran."""


class Idle(msgspec.Struct, kw_only=True):
    """Medians of reads of one lead, one at a time, in turns direct and through a Batcher."""

    round: int
    direct_ms: float
    batched_ms: float


def find_workload(name: str) -> Workload:
    return next(workload for workload in WORKLOADS if workload.name == name)


def choose_workloads(only: Collection[str]) -> list[Workload]:
    """All, or those named."""
    return [workload for workload in WORKLOADS if not only or workload.name in only]


def plan_capacity(workloads: Sequence[Workload], sizes: Sequence[int]) -> list[Step]:
    """Every workload for all its rivals, side by side, so that a slow minute hits them alike."""
    steps = []
    for workload in workloads:
        steps += [Step("capacity", workload.name, rival, sizes[0]) for rival in workload.rivals]
        if workload.grows:
            steps += [Step("capacity", workload.name, "service-1", size) for size in sizes[1:]]
    return steps


def plan_half(workloads: Sequence[Workload], sizes: Sequence[int]) -> list[Step]:
    """The latencies of what is paced, at all sizes."""
    return [
        Step("half", workload.name, "service-1", size)
        for workload in workloads
        if workload.paced
        for size in sizes
    ]


def plan_single(workloads: Sequence[Workload], sizes: Sequence[int]) -> list[Step]:
    """One client that waits for each answer, against an idle server."""
    names = {workload.name for workload in workloads}
    return [Step("single", "get", rival, sizes[0]) for rival in SINGLE_RIVALS if "get" in names]


def order_rounds(steps: Sequence[Step], rounds: int) -> Iterator[tuple[int, Step]]:
    """All steps once a round; every round begins with another one of each workload."""
    for number in range(rounds):
        for name in dict.fromkeys(step.workload for step in steps):
            group = [step for step in steps if step.workload == name]
            turn = number % len(group)
            for step in group[turn:] + group[:turn]:
                yield number + 1, step
