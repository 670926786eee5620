"""Detects an overloaded process: its event loop is late, or too many requests are in progress."""

import asyncio
import time
from collections.abc import Callable

from service.load.admission import CALM_PART, CROWD_LIMITS
from service.telemetry.metrics import LOOP_LAG_SECONDS

SAMPLE_EVERY_S = 0.025
IDLE_SAMPLE_S = 0.25
"""Without requests. The short samples took half of the processor time of an idle process."""
LOOP_TURNS = 3
"""A request needs this many turns of the loop: its limit divided by them is the limit of a turn."""
ALWAYS_ADMITTED = 100
"""Fewer requests in progress than this are never too many, however slow they are. With this many
or more, the rate of responses shows the capacity of the process."""
CONTENDED = 16
"""With this many requests in progress the process counts as contended."""
FIRST_RATE = 5_000.0
"""Responses per second that are assumed until the capacity has been measured."""
SMOOTHING, FORGETTING = 0.1, 0.02
"""The weight of one sample of SAMPLE_EVERY_S, with ALWAYS_ADMITTED requests in progress or more,
and with fewer."""


class OverloadDetector:
    """Measures the delay of the event loop and the rate of finished requests."""

    __slots__ = (
        "_busy_s", "_clock", "_is_late", "_late_since", "_limit_s", "_most_at_work", "_rate",
        "at_work", "finished",
    )  # fmt: skip

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit_s`: how long a request may wait in total."""
        self._limit_s = limit_s
        self._clock = clock
        self.at_work = 0
        """Requests in progress now."""
        self.finished = 0
        """Requests that got a response, or began to wait, since the last sample."""
        self._rate = FIRST_RATE
        self._most_at_work = self._find_most()
        self._late_since = float("inf")
        self._is_late = False
        self._busy_s = 0.0
        """Recent time in which the process was contended, as in AdmissionRule."""

    @property
    def is_overloaded(self) -> bool:
        """Whether a new request would get its response too late, and the first crowd is over."""
        if not self._is_late and self.at_work < self._most_at_work:
            return False
        return self._busy_s >= CROWD_LIMITS * self._limit_s

    def note_lag(self, lag_s: float, now: float) -> None:
        """Record by how many seconds the loop was late, at the time `now`.

        A single delay is not an overload: the loop must be late without a break for longer than
        the limit of a turn.
        """
        limit_s = self._limit_s / LOOP_TURNS
        self._late_since = min(self._late_since, now) if lag_s > limit_s else float("inf")
        self._is_late = now - self._late_since > limit_s

    def note_time(self, seconds: float) -> None:
        """Record the rate of requests that finished in these seconds.

        A request that is admitted behind n others in progress waits for n responses (Little's law).
        So n is limited to the measured rate of responses times twice the limit.
        """
        finished, self.finished = self.finished, 0
        if self.at_work >= ALWAYS_ADMITTED:
            self._rate += SMOOTHING * (finished / seconds - self._rate)
        else:
            self._rate += FORGETTING * (FIRST_RATE - self._rate)
        self._most_at_work = self._find_most()
        if self._is_late or self.at_work >= CONTENDED:
            self._busy_s = min(self._busy_s + seconds, 2 * CROWD_LIMITS * self._limit_s)
        else:
            self._busy_s = max(0.0, self._busy_s - seconds * CALM_PART)

    def _find_most(self) -> int:
        return max(ALWAYS_ADMITTED, int(2 * self._limit_s * self._rate))

    async def sample(self) -> float:
        """Measure for SAMPLE_EVERY_S, or longer while idle; return the delay in seconds."""
        planned_s = SAMPLE_EVERY_S if self.at_work or self.finished else IDLE_SAMPLE_S
        begun = self._clock()
        due = begun + planned_s
        await asyncio.sleep(planned_s)
        now = self._clock()
        self.note_lag(now - due, now)
        self.note_time(now - begun)
        lag_s = max(0.0, now - due)
        LOOP_LAG_SECONDS.observe(lag_s)
        return lag_s
