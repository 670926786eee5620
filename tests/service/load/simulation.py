"""Simulates a server behind a WaitQueue, with a clock that the simulation moves."""

import asyncio
import heapq
import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from service.errors import Overloaded
from service.load.owner import OWNER
from service.load.wait_queue import WaitQueue


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Outcome:
    waited_s: list[float] = field(default_factory=list)
    refused: int = 0

    def find_p99(self, after: int = 0) -> float:
        return statistics.quantiles(self.waited_s[after:], n=100, method="inclusive")[98]


class Simulation:
    """Serves `servers` requests at a time; the n-th takes `serve_s(n)` seconds."""

    def __init__(self, serve_s: Callable[[int], float], *, servers: int, limit_s: float) -> None:
        self.clock = Clock()
        self.began = self.clock.now
        self.queue: WaitQueue[Hashable, None] = WaitQueue("test", limit_s=limit_s, clock=self.clock)
        self.outcomes: defaultdict[Hashable, Outcome] = defaultdict(Outcome)
        self._serve_s = serve_s
        self._free = servers
        self._served = 0
        self._events: list[tuple[float, int, str, Hashable]] = []
        self._numbers = itertools.count()
        self._arrived: dict[asyncio.Future[None], float] = {}
        self._again: dict[Hashable, list[int]] = {}

    def arrive(self, owner: Hashable, times: Sequence[float]) -> None:
        """Add independent requests at the given times."""
        for time in times:
            heapq.heappush(self._events, (self.began + time, next(self._numbers), "arrival", owner))

    def loop(self, owner: Hashable, clients: int, requests: int, at: float = 0.0) -> None:
        """Add clients that send `requests` requests in all, each client one at a time."""
        self._again[owner] = [requests - clients]
        self.arrive(owner, [at] * clients)

    def run(self, until: float = float("inf")) -> None:
        while self._events and self._events[0][0] <= self.began + until:
            self.clock.now, _, kind, owner = heapq.heappop(self._events)
            if kind == "arrival":
                self._admit(owner)
                continue
            self._free += 1
            self._arrive_again(owner)
            self._take_next()

    def _admit(self, owner: Hashable) -> None:
        if self._free:
            self.outcomes[owner].waited_s.append(0.0)
            self._serve(owner)
            return
        OWNER.set(owner)
        try:
            self._arrived[self.queue.join(owner)] = self.clock.now
        except Overloaded:
            self.outcomes[owner].refused += 1
            self._arrive_again(owner)
        finally:
            OWNER.set(None)

    def _arrive_again(self, owner: Hashable) -> None:
        if self._again.get(owner, [0])[0] > 0:
            self._again[owner][0] -= 1
            self.arrive(owner, [self.clock.now - self.began])

    def _take_next(self) -> None:
        for owner, future, _ in self.queue.take():
            if not future.done():
                self.outcomes[owner].waited_s.append(self.clock.now - self._arrived.pop(future))
                future.cancel()
                self._serve(owner)

    def _serve(self, owner: Hashable) -> None:
        self._free -= 1
        self._served += 1
        end = self.clock.now + self._serve_s(self._served)
        heapq.heappush(self._events, (end, next(self._numbers), "end", owner))
