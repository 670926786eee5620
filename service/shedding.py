"""When to refuse work: rather a few at once and cheaply than everybody too late.

A process that is asked for more than it can do falls behind in three places. Its event loop comes
late to every socket, and more requests are at work than can be answered in time: `Gate` measures
both. And its statements queue, which Batchers, pools and turns measure.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from service.logs import get_logger
from service.metrics import LOOP_LAG_SECONDS

SAMPLE_EVERY_S = 0.025
TURNS = 3
"""So many turns of the loop a request needs, so its share of the delay is that part of it."""
TELL_EVERY_S = 1.0
ALWAYS_LET_IN = 100
"""So many requests at work are no crowd, however slow each is."""
FIRST_RATE = 5_000.0
"""Answers a second that a process is trusted with until a crowd has shown what it can do."""
SMOOTHING, FORGETTING = 0.1, 0.02
"""What one look of SAMPLE_EVERY_S weighs, in a crowd and without."""
log = get_logger("shedding")


def is_too_late(since: float, now: float, limit_s: float) -> bool:
    """Whether a queue whose oldest entry has stood since then takes no more.

    A short burst empties within the limit. Where the oldest has stood longer the queue has not
    been empty for as long, so it is no burst; and who is still let in waits, at twice the capacity,
    twice the limit at the most.
    """
    return now - since > limit_s


def find_late_since(late_since: float, lag_s: float, now: float, limit_s: float) -> float:
    """Since when the loop has been late without a break; infinity: it is not."""
    return min(late_since, now) if lag_s > limit_s else float("inf")


class Gate:
    """Shut while the loop of this process stays late; one hiccup does not shut it."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: how long a request may wait in all."""
        self._limit_s = limit_s
        self._at_work = self._answered = 0
        self._rate = FIRST_RATE
        self._most = self._find_most()
        self._late_since = float("inf")
        self._refused = 0
        self._told_at = 0.0
        self._is_late = False

    @property
    def is_shut(self) -> bool:
        """Whether whoever comes now would be answered too late."""
        return self._is_late or self._at_work >= self._most

    def enter(self) -> None:
        """A request is at work."""
        self._at_work += 1

    def leave(self, *, refused: bool = False) -> None:
        """It has its answer; a refusal is none that another would have waited for."""
        self._at_work -= 1
        self._answered += not refused

    @contextmanager
    def resting(self) -> Iterator[None]:
        """A request that waits on purpose is nobody's crowd."""
        self._at_work -= 1
        try:
            yield
        finally:
            self._at_work += 1

    def refuse(self) -> None:
        """Counts one that was refused; the log gets one line a second for all of them."""
        self._refused += 1

    def note(self, lag_s: float, now: float) -> None:
        """Takes a measurement: how many seconds too late the loop came, and when."""
        limit_s = self._limit_s / TURNS
        self._late_since = find_late_since(self._late_since, lag_s, now, limit_s)
        self._is_late = is_too_late(self._late_since, now, limit_s)
        if self._refused and now - self._told_at >= TELL_EVERY_S:
            log.warning("requests.shed", count=self._refused, lag_ms=round(lag_s * 1000, 1))
            self._refused, self._told_at = 0, now

    def count(self, seconds: float) -> None:
        """Takes a measurement: how many answers came in these seconds.

        Who is let in behind n others at work waits for n answers (Little's law). So their number
        is bounded by the rate of answers when there last was a crowd, times twice the limit.
        """
        answered, self._answered = self._answered, 0
        if self._at_work >= ALWAYS_LET_IN:
            self._rate += SMOOTHING * (answered / seconds - self._rate)
        else:
            self._rate += FORGETTING * (FIRST_RATE - self._rate)
        self._most = self._find_most()

    def _find_most(self) -> int:
        return max(ALWAYS_LET_IN, int(2 * self._limit_s * self._rate))

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Measures until left."""
        task = asyncio.create_task(self._watch_forever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch_forever(self) -> None:
        while True:
            begun = time.monotonic()
            due = begun + SAMPLE_EVERY_S
            await asyncio.sleep(SAMPLE_EVERY_S)
            now = time.monotonic()
            self.count(now - begun)
            LOOP_LAG_SECONDS.observe(max(0.0, now - due))
            self.note(now - due, now)
