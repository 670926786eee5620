"""The processor time of each process group, from /proc. The arithmetic is pure."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.webhooks.usage import read_cpu_s

GROUPS = ("PostgreSQL", "Valkey", "API", "worker")
TICKS = os.sysconf("SC_CLK_TCK")


def parse_cpu_s(stat: str) -> float:
    """Seconds of user and system time in the text of /proc/PID/stat, without its children's."""
    user, system = stat.rpartition(")")[2].split()[11:13]  # the name before may contain anything
    return (int(user) + int(system)) / TICKS


def read_own_cpu_s(pid: int) -> float:
    """Seconds of one process without its children; 0 once it has ended."""
    try:
        return parse_cpu_s(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8"))
    except OSError:
        return 0.0


@dataclass(frozen=True)
class Snapshot:
    """Processor seconds since the start of each process, and of the whole machine, at `at`."""

    at: float
    groups: Mapping[str, float]
    machine: float


class Meter:
    """Reads the processor time of process groups, each with its ended children.

    `excluded` are the backends of the bench's own connections; PostgreSQL's time is without theirs.
    They must live as long as the meter.
    """

    def __init__(self, pids: Mapping[str, int], excluded: Iterable[int]) -> None:
        self._pids, self._excluded = pids, tuple(excluded)

    def read(self, at: float) -> Snapshot:
        groups = {name: read_cpu_s(pid) for name, pid in self._pids.items()}
        groups["PostgreSQL"] -= sum(read_own_cpu_s(pid) for pid in self._excluded)
        times = psutil.cpu_times()
        return Snapshot(at, groups, times.user + times.nice + times.system)


def subtract(later: Snapshot, earlier: Snapshot) -> dict[str, float]:
    """Processor seconds by group in between."""
    return {name: later.groups[name] - earlier.groups[name] for name in later.groups}


def compute_percents(later: Snapshot, earlier: Snapshot) -> dict[str, float]:
    """Percent of one core by group in between; `others` is all else on the machine."""
    seconds = later.at - earlier.at
    used = subtract(later, earlier)
    used["others"] = later.machine - earlier.machine - sum(used.values())
    return {name: cpu_s / seconds * 100 for name, cpu_s in used.items()}
