"""What one run measured."""

from collections.abc import Mapping

import msgspec

from tests.bench.pipeline.probe import Latency, Size
from tests.bench.pipeline.profile import FunctionTime
from tests.bench.pipeline.statements import Statement, count_calls, count_window_reads


class Run(msgspec.Struct, kw_only=True):
    """One load on one tree. A figure that could not be had is None or empty.

    A change is a lead that was created; in the mix, any successful request.
    """

    tree: str
    round: int
    load: str
    variant: str
    seconds: float
    """The length of the load."""
    changes: int
    failures: int
    """The number of responses of 400 and above, time-outs and lost connections."""
    catch_up_s: float
    """From the end of the load until every reader and every delivery had finished."""
    has_caught_up: bool
    lag_s: Mapping[str, float]
    """The seconds that each reader was behind when the load ended; all were at 0 when it began."""
    cpu_s: Mapping[str, float]
    """Processor seconds of each group, from the begin of the load until the end of catching up."""
    percents: Mapping[str, float]
    """Percent of one core of each group during the load, and of `others`."""
    latencies: Mapping[str, Latency]
    """`request`; `score`, `stream` and `webhook` count from the event's createdAt."""
    statements: list[Statement]
    sizes: Mapping[str, Size]
    """The growth of each table."""
    wal_bytes: int
    profile: Mapping[str, list[FunctionTime]] = {}
    """Python time by function of the API and the worker; empty unless asked for."""
    deliveries: int = 0
    """The webhook requests that arrived."""
    entries: int = 0
    """The stream entries that arrived."""

    @property
    def per_second(self) -> float:
        """Changes per second of load."""
        return self.changes / self.seconds

    @property
    def sustained(self) -> float | None:
        """Changes per second until every reader had finished; None if some never did."""
        return self.changes / (self.seconds + self.catch_up_s) if self.has_caught_up else None

    @property
    def cpu_us(self) -> dict[str, float]:
        """Processor µs per change by group; empty without changes."""
        return {
            name: self._per_change(cpu_s * 1e6)
            for name, cpu_s in self.cpu_s.items()
            if self.changes
        }

    @property
    def total_cpu_us(self) -> float | None:
        return sum(self.cpu_us.values()) if self.changes else None

    @property
    def calls(self) -> float | None:
        """Statements per change; per second of an idle run."""
        return self._rate(count_calls(self.statements))

    @property
    def window_reads(self) -> float | None:
        """Reads of windows per change; per second of an idle run."""
        return self._rate(count_window_reads(self.statements))

    @property
    def plan_us(self) -> float | None:
        """µs of planning per change; per second of an idle run."""
        return self._rate(sum(each.plan_ms for each in self.statements if each.top_level) * 1000)

    @property
    def exec_us(self) -> float | None:
        """µs of execution per change; per second of an idle run. It includes waits for the disk."""
        return self._rate(sum(each.exec_ms for each in self.statements if each.top_level) * 1000)

    @property
    def table_bytes(self) -> float | None:
        return self._bytes(sum(size.table for size in self.sizes.values()))

    @property
    def index_bytes(self) -> float | None:
        return self._bytes(sum(size.index for size in self.sizes.values()))

    @property
    def wal(self) -> float | None:
        """Bytes of WAL per change."""
        return self._bytes(self.wal_bytes)

    def _rate(self, count: float) -> float | None:
        if not self.statements:
            return None
        return self._per_change(count) if self.changes else count / (self.seconds + self.catch_up_s)

    def _bytes(self, count: int) -> float | None:
        return self._per_change(count) if self.changes else None

    def _per_change(self, value: float) -> float:
        return value / self.changes
