"""The ratios of two trees, from pairs of runs of the same load in the same minutes. Pure."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.bench.against.pairs import Pairs
from tests.bench.pipeline.cpu import GROUPS
from tests.bench.pipeline.run import Run

LATENCIES = ("request", "score", "stream", "webhook")


class Metric(NamedTuple):
    """A figure of a run; None if the run has none."""

    title: str
    unit: str
    more: bool | None
    """Whether a higher value is better; None: neither, it only explains other figures."""
    read: Callable[[Run], float | None]


def list_metrics() -> Iterator[Metric]:
    yield Metric("processor time", "µs a lead", False, lambda run: run.total_cpu_us)
    yield from (_read_cpu(group) for group in GROUPS)
    yield Metric("all else on the machine", "% of a core", None, _read_others)
    yield from (_read_idle(group) for group in GROUPS)
    yield Metric("leads accepted", "per second", True, _when_loaded(lambda run: run.per_second))
    yield Metric("leads read by all", "per second", True, _when_loaded(lambda run: run.sustained))
    yield Metric("statements", "a lead", False, _when_loaded(lambda run: run.calls))
    yield Metric("window reads", "a lead", False, _when_loaded(lambda run: run.window_reads))
    yield Metric("planning", "µs a lead", False, _when_loaded(lambda run: run.plan_us))
    yield Metric("execution", "µs a lead", False, _when_loaded(lambda run: run.exec_us))
    yield Metric("statements, idle", "per second", False, _when_idle(lambda run: run.calls))
    for name in LATENCIES:
        title = "request" if name == "request" else f"createdAt → {name}"
        yield Metric(f"{title}, p50", "ms", False, _read_latency(name, "p50_ms"))
        yield Metric(f"{title}, p99", "ms", False, _read_latency(name, "p99_ms"))
    yield Metric("tables", "bytes a lead", False, lambda run: run.table_bytes)
    yield Metric("indexes", "bytes a lead", False, lambda run: run.index_bytes)
    yield Metric("WAL", "bytes a lead", False, lambda run: run.wal)


def _read_others(run: Run) -> float | None:
    """The load generator and the observers, and any stranger: if it differs, so do all rates."""
    return run.percents.get("others")


def _read_cpu(group: str) -> Metric:
    return Metric(f"  {group}", "µs a lead", False, lambda run: run.cpu_us.get(group))


def _read_idle(group: str) -> Metric:
    read = _when_idle(lambda run: run.percents.get(group))
    return Metric(f"{group}, idle", "% of a core", False, read)


def _read_latency(name: str, percentile: str) -> Callable[[Run], float | None]:
    def read(run: Run) -> float | None:
        latency = run.latencies.get(name)
        return None if latency is None else getattr(latency, percentile)

    return read


def _when_loaded(read: Callable[[Run], float | None]) -> Callable[[Run], float | None]:
    return lambda run: read(run) if run.changes else None


def _when_idle(read: Callable[[Run], float | None]) -> Callable[[Run], float | None]:
    return lambda run: None if run.changes else read(run)


METRICS = tuple(list_metrics())


def add_pair(pairs: Pairs, ours: Run, theirs: Run) -> None:
    """Adds one round's figures; a figure that neither tree has is left out."""
    for metric in METRICS:
        values = metric.read(ours), metric.read(theirs)
        if values != (None, None):
            pairs.add(metric.title, metric.unit, more=metric.more, ours=values[0], theirs=values[1])
