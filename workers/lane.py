"""A lane: what one dispatcher knows of one endpoint while it sends there (pure, no I/O).

Its window bounds the requests in flight, its breaker stops them where they are hopeless, its
tokens hold them to the rate that the endpoint's owner has set. Times are monotonic seconds.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST_WINDOW = 8.0
MIN_WINDOW, MAX_WINDOW = 1.0, 32.0
GROWTH = 1 / 50
"""Fifty successes under a full window widen it by one; below the first window, one does."""
SLOW_S = 2.0
TRIP_STREAK = 5
"""So many connections in a row that came to nothing open the breaker."""
TRIP_COUNT, TRIP_SHARE, TRIP_SPAN_S = 10, 0.7, 60.0
"""Or this share of failures among so many answers within the span."""
FIRST_PAUSE_S, MAX_PAUSE_S = 15.0, 600.0

MAX_IN_FLIGHT = 400
MAX_DOUBTFUL = 200
"""Requests in flight to slow lanes and those that have not answered well yet."""
MAX_SLOW = 100
MAX_YIELDING = 280
"""Retries and replays in flight; the rest of all slots is for first attempts."""


@dataclass(slots=True)
class Lane:
    """`begun` has the requests in flight by token, the oldest first: when each began."""

    window: float = FIRST_WINDOW
    begun: dict[int, float] = field(default_factory=dict)
    closed_until: float = 0.0
    saved_at: float = math.inf
    """Since when the database knows of `closed_until`."""
    proven: bool = False
    trips: int = 0
    """How often the breaker has opened since the last success; above 0 it is half-open."""
    streak: int = 0
    span_end: float = 0.0
    good: int = 0
    bad: int = 0
    rate_limit: int | None = None
    tokens: float = 0.0
    tokens_at: float = 0.0
    succeeded: bool = False
    """This and `failed` are the tally since it was written down."""
    failed: int = 0

    def learn(self, rate_limit: int | None, trips: int, now: float) -> None:
        """What the database knows; it may change at any time, trips count at first sight."""
        if rate_limit != self.rate_limit:
            self.rate_limit, self.tokens, self.tokens_at = rate_limit, float(rate_limit or 0), now
        if not self.proven and trips and not self.trips:
            self.trips, self.window = trips, MIN_WINDOW

    def begin(self, token: int, now: float) -> None:
        """A request starts."""
        self.begun[token] = now
        self.tokens -= 1

    def end(self, token: int) -> None:
        """It is settled."""
        del self.begun[token]

    def note_success(self, now: float) -> None:
        """2xx: closes the breaker, widens the window."""
        self._roll(now)
        self.good += 1
        self.succeeded, self.failed, self.proven = True, 0, True
        self.trips = self.streak = 0
        if len(self.begun) >= int(self.window):
            step = 1.0 if self.window < FIRST_WINDOW else GROWTH
            self.window = min(self.window + step, MAX_WINDOW)

    def note_failure(self, now: float, *, unreachable: bool, crowded: bool) -> float:
        """Anything else; the seconds for which the breaker opens now, 0 if it does not.

        `unreachable`: no answer; `crowded`: it asks for fewer requests at once.
        """
        self._roll(now)
        self.bad += 1
        self.failed += 1
        self.streak = self.streak + 1 if unreachable else 0
        if crowded:
            self.window = max(self.window / 2, MIN_WINDOW)
        answers = self.good + self.bad
        hopeless = answers >= TRIP_COUNT and self.bad >= TRIP_SHARE * answers
        if now < self.closed_until or not (self.trips or hopeless or self.streak >= TRIP_STREAK):
            return 0.0
        pause_s = min(FIRST_PAUSE_S * (1 << self.trips), MAX_PAUSE_S)
        self.trips = min(self.trips + 1, 10)
        self.window, self.good, self.bad, self.streak = MIN_WINDOW, 0, 0, 0
        self.close(now + pause_s)
        return pause_s

    def close(self, until: float) -> None:
        """Nothing begins before then."""
        if until > self.closed_until:
            self.closed_until, self.saved_at = until, math.inf

    def note_saved(self, until: float, now: float) -> None:
        """The database knows that it is closed until then."""
        if until >= self.closed_until:
            self.saved_at = now

    def note_open(self, asked_at: float) -> None:
        """The database, asked then, says that it is not closed: its owner has opened it."""
        if self.saved_at < asked_at < self.closed_until:
            self.closed_until, self.trips, self.streak = 0.0, 0, 0

    def count_free(self, now: float) -> int:
        """How many more requests may begin."""
        if now < self.closed_until:
            return 0
        free = max(int(self.window) - len(self.begun), 0)
        if self.rate_limit is None:
            return free
        earned = (now - self.tokens_at) * self.rate_limit
        self.tokens, self.tokens_at = min(self.tokens + earned, float(self.rate_limit)), now
        return min(free, max(int(self.tokens), 0))

    def is_slow(self, now: float) -> bool:
        """Whether a request has been open for long."""
        return bool(self.begun) and now - next(iter(self.begun.values())) > SLOW_S

    def _roll(self, now: float) -> None:
        if now > self.span_end:
            self.good, self.bad, self.span_end = 0, 0, now + TRIP_SPAN_S


class Lanes(defaultdict[str, Lane]):
    """All lanes of a dispatcher, by endpoint."""

    def __init__(self) -> None:
        super().__init__(Lane)

    def allot(self, due: Sequence[str], now: float, room: int) -> dict[str, int]:
        """How many more requests each of the due lanes may begin; those that may none are left out.

        Slow lanes share a bounded part of all slots, and so do they and the unproven ones, so that
        no number of broken endpoints delays the others.
        """
        slow = {i for i, lane in self.items() if lane.is_slow(now)}
        in_slow = sum(len(self[i].begun) for i in slow)
        in_doubt = in_slow + sum(
            len(lane.begun) for i, lane in self.items() if not lane.proven and i not in slow
        )
        for_doubtful = max(MAX_DOUBTFUL - in_doubt, 0)
        for_slow = max(MAX_SLOW - in_slow, 0)
        # Where many lanes are due each gets little at a time: the same few connections serve it.
        fair = max(2 * MAX_IN_FLIGHT // max(len(due), 1), 1)
        allotted: dict[str, int] = {}
        for i in due:
            lane = self[i]
            bound = min(room, fair - len(lane.begun))
            if not lane.proven or i in slow:
                bound = min(bound, for_doubtful, for_slow if i in slow else room)
            share = min(lane.count_free(now), bound)
            if share <= 0:
                continue
            allotted[i] = share
            room -= share
            for_doubtful -= share if not lane.proven or i in slow else 0
            for_slow -= share if i in slow else 0
        return allotted

    def take_tallies(self) -> list[tuple[str, bool, int, int]]:
        """Endpoint, whether a request succeeded, failures since then, trips; of lanes with news."""
        told = []
        for i, lane in self.items():
            if lane.succeeded or lane.failed:
                told.append((i, lane.succeeded, lane.failed, lane.trips))
                lane.succeeded, lane.failed = False, 0
        return told
