"""A lane: what one dispatcher knows of one endpoint while it sends there (pure, no I/O).

Its window bounds the requests in flight, its breaker stops them where they are hopeless, its
tokens hold them to the rate that the endpoint's owner has set. Times are monotonic seconds.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

FIRST_WINDOW = 8.0
MIN_WINDOW, MAX_WINDOW = 1.0, 32.0
GROWTH = 1 / 50
"""Fifty successes under a full window widen it by one; below the first window, one does."""
DOUBT_S, SLOW_S = 0.3, 1.0
"""Who takes longer to answer is doubtful, then slow."""
TRIP_STREAK = 5
"""So many connections in a row that came to nothing open the breaker."""
TRIP_COUNT, TRIP_SHARE, TRIP_SPAN_S = 10, 0.7, 60.0
"""Or this share of failures among so many answers within the span."""
FIRST_PAUSE_S, MAX_PAUSE_S = 15.0, 600.0

ORDINARY, RESERVE = 400, 100
"""Slots. As many of the reserve as are stuck are open, to quick lanes only: so whatever begins to
hang at once, those that go on find slots as soon as it is noticed, after DOUBT_S."""
RESERVE_EACH = 8
"""A lane with so many requests in flight gets none of the reserve."""
MAX_IN_FLIGHT = ORDINARY + RESERVE
MAX_DOUBTFUL = 200
"""Requests in flight to slow lanes, doubtful ones and those that have not answered well yet."""
MAX_SLOW = 100
MAX_YIELDING = 280
"""Retries and replays in flight; the rest of the ordinary slots is for first attempts."""
BULK = 8
"""A busy dispatcher claims for an eighth of the slots at once."""


def find_limit(stuck: int) -> int:
    """How many requests may be in flight if so many are stuck."""
    return ORDINARY + min(stuck, RESERVE)


def find_bulk(stuck: int) -> int:
    """How many of them must be free before it is worth while to claim."""
    return max(min(ORDINARY, MAX_IN_FLIGHT - stuck) // BULK, 1)


@dataclass(slots=True)
class Lane:
    """`begun` has the requests in flight by token, the oldest first: when each began."""

    window: float = FIRST_WINDOW
    begun: dict[int, float] = field(default_factory=dict)
    closed_until: float = 0.0
    saved_at: float = math.inf
    """Since when the database knows of `closed_until`."""
    took_s: float = SLOW_S
    """How long the last answer took. None, or none yet, is never quick."""
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

    def note_success(self, now: float, took_s: float) -> None:
        """2xx: closes the breaker, widens the window."""
        self._roll(now)
        self.good += 1
        self.took_s = took_s
        self.succeeded, self.failed, self.proven = True, 0, True
        self.trips = self.streak = 0
        if len(self.begun) >= int(self.window):
            step = 1.0 if self.window < FIRST_WINDOW else GROWTH
            self.window = min(self.window + step, MAX_WINDOW)

    def note_failure(self, now: float, took_s: float, *, unreachable: bool, crowded: bool) -> float:
        """Anything else; the seconds for which the breaker opens now, 0 if it does not.

        `unreachable`: no answer; `crowded`: it asks for fewer requests at once.
        """
        self._roll(now)
        self.bad += 1
        self.failed += 1
        self.streak = self.streak + 1 if unreachable else 0
        self.took_s = max(self.took_s, took_s, SLOW_S if unreachable else 0.0)
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

    def find_age(self, now: float) -> float:
        """For how long the oldest request has been open, 0 if none is."""
        return now - next(iter(self.begun.values())) if self.begun else 0.0

    def is_slow(self, now: float) -> bool:
        """Whether a request has been open for long, or the last one was."""
        return max(self.find_age(now), self.took_s) > SLOW_S

    def is_quick(self, now: float) -> bool:
        """Whether it answers well and soon, as far as we know."""
        return self.proven and max(self.find_age(now), self.took_s) <= DOUBT_S

    def _roll(self, now: float) -> None:
        if now > self.span_end:
            self.good, self.bad, self.span_end = 0, 0, now + TRIP_SPAN_S


class Slots:
    """Which slots are free for which lanes, at a moment."""

    def __init__(self, lanes: Iterable[Lane], now: float) -> None:
        self._now = now
        self._ordinary, stuck = ORDINARY, 0
        self._doubtful, self._slow = MAX_DOUBTFUL, MAX_SLOW
        for lane in lanes:
            if lane.begun:
                self.take(lane, len(lane.begun))
                stuck += len(lane.begun) if lane.find_age(now) > DOUBT_S else 0
        self._reserve = min(stuck, RESERVE)

    def count_for(self, lane: Lane) -> int:
        """How many this lane may have; below 1: none."""
        if lane.is_quick(self._now):
            spare = min(self._ordinary + self._reserve, RESERVE_EACH - len(lane.begun))
            return max(self._ordinary, spare)
        bound = min(self._ordinary, self._doubtful)
        return min(bound, self._slow) if lane.is_slow(self._now) else bound

    def take(self, lane: Lane, count: int) -> None:
        """The lane has taken so many."""
        self._ordinary -= count
        if not lane.is_quick(self._now):
            self._doubtful -= count
            self._slow -= count if lane.is_slow(self._now) else 0


class Lanes(defaultdict[str, Lane]):
    """All lanes of a dispatcher, by endpoint."""

    def __init__(self) -> None:
        super().__init__(Lane)

    def count_stuck(self, now: float) -> int:
        """Requests in flight in lanes of which one has been open for longer than it should."""
        return sum(
            len(lane.begun) for lane in self.values() if lane.begun and lane.find_age(now) > DOUBT_S
        )

    def allot(self, due: Sequence[str], now: float, room: int) -> dict[str, int]:
        """How many more requests each of the due lanes may begin; those that may none are left out.

        Slow lanes share a bounded part of all slots, and so do they and the doubtful ones, so that
        no number of broken endpoints delays the others.
        """
        slots = Slots(self.values(), now)
        # Where many lanes are due each gets little at a time: the same few connections serve it.
        fair = max(2 * ORDINARY // max(len(due), 1), 1)
        allotted: dict[str, int] = {}
        for i in due:
            lane = self[i]
            bound = min(room, fair - len(lane.begun), slots.count_for(lane))
            share = min(lane.count_free(now), bound)
            if share > 0:
                allotted[i] = share
                room -= share
                slots.take(lane, share)
        return allotted

    def take_tallies(self) -> list[tuple[str, bool, int, int]]:
        """Endpoint, whether a request succeeded, failures since then, trips; of lanes with news."""
        told = []
        for i, lane in self.items():
            if lane.succeeded or lane.failed:
                told.append((i, lane.succeeded, lane.failed, lane.trips))
                lane.succeeded, lane.failed = False, 0
        return told
