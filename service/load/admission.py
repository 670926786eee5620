"""The rule that decides whether a newcomer may join a queue."""

import time
from collections.abc import Callable

CROWD_LIMITS = 20
"""A queue is warm after contention of this many times the limit: 3 s at the default of 0.15 s."""
CALM_PART = 0.3
"""Seconds that are subtracted from the contended time for each second without contention: 10 s
without contention subtract the 3 s."""
STALLED_S = 3.0
REQUEST_LIFE_S = 10.0
"""The longest expected wait in a queue that is not warm: a client would give up before it ends."""
EVIDENCE_S = 1.0
"""The mean interval is used only after this much contention. Before that it may be too long,
because connections are being opened or the process is still receiving the crowd."""
MEASURED_S = 0.25
"""The mean interval is measured over about the last quarter of a second of contention."""


class AdmissionRule:
    """Refuses a newcomer if its expected wait is too long, unless the queue is a first crowd.

    The expected wait is the number of waiters ahead times the mean interval between grants. The
    interval is measured while the queue is contended, that is, not empty. Neither number is enough
    by itself: a thousand reads take a tenth of a second, a thousand searches four seconds. The age
    of the oldest waiter describes only the past: a rule by age refused whole crowds that were about
    to be served.

    A warm queue refuses a newcomer whose expected wait is above `limit_s`. Under a lasting overload
    the queue would otherwise only grow. At twice the capacity, half of the requests are served
    within the limit and the other half are refused at once.

    A crowd is different: its requests arrive together, and then it ends. No measurement
    distinguishes it from a lasting overload at the beginning. But a crowd after a pause is over
    within seconds. After a start it is also slow (connections are opened, statements prepared,
    plans made, caches filled), so an interval measured then proves nothing. Therefore a queue is
    warm only after it has been contended for 20 times the limit (3 s). A queue that is not warm
    refuses a newcomer only if its client would give up before it is served. Each second without
    contention subtracts 0.3 s from the contended time: a queue that is contended for less than a
    quarter of the time never becomes warm, and an overloaded queue stays warm.

    A queue that has not moved for 3 s, warm or not, refuses every newcomer: the server behind it
    does not respond.

    An infinite limit admits every newcomer.
    """

    __slots__ = (
        "_clock", "_contended_s", "_crowd_s", "_grants", "_interval_s", "_limit_s", "_moved_at",
        "_spent_s", "has_limit",
    )  # fmt: skip

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self.has_limit = limit_s < float("inf")
        self._crowd_s = CROWD_LIMITS * limit_s
        self._clock = clock
        self._moved_at = float("-inf")
        """The time of the last grant, or of the last join to an empty queue if that was later."""
        self._contended_s = 0.0
        """Recent contended time; the queue is warm if it is at least `_crowd_s`."""
        self._spent_s = self._grants = 0.0
        """The length of about the last MEASURED_S of contended time, and the grants in it."""
        self._interval_s = 0.0

    @property
    def is_used(self) -> bool:
        """Whether the queue was contended recently."""
        calm_s = self._clock() - self._moved_at
        return self._contended_s > calm_s * CALM_PART

    def begin(self) -> None:
        """Note that an empty queue gets its first waiter."""
        now = self._clock()
        calm_s = now - self._moved_at
        self._contended_s = max(0.0, self._contended_s - calm_s * CALM_PART)
        self._moved_at = now

    def grant(self, count: int) -> None:
        """Note that `count` waiters were taken from the queue."""
        now = self._clock()
        spent_s = now - self._moved_at
        self._moved_at = now
        self._contended_s = min(self._contended_s + spent_s, 2 * self._crowd_s)
        kept = MEASURED_S / (MEASURED_S + spent_s)
        # One long interval must not make the expected waits of all later ones as long.
        self._spent_s = self._spent_s * kept + min(spent_s, self._limit_s)
        self._grants = self._grants * kept + count
        self._interval_s = self._spent_s / self._grants

    def is_stalled(self) -> bool:
        """Whether the queue, if it is not empty, has not moved for too long."""
        return self.has_limit and self._clock() - self._moved_at >= STALLED_S

    def admits(self, ahead: int) -> bool:
        """Whether a newcomer may join a queue that is not empty, behind `ahead` waiters."""
        if not self.has_limit:
            return True
        still_s = self._clock() - self._moved_at
        if still_s >= STALLED_S:
            return False
        contended_s, expected_s = self._contended_s + still_s, ahead * self._interval_s
        if contended_s >= self._crowd_s:
            return expected_s <= self._limit_s
        return contended_s < EVIDENCE_S or expected_s <= REQUEST_LIFE_S
