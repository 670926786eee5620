"""A lane: the state of one endpoint in one dispatcher, which decides what may be sent (pure).

Its window bounds the requests in flight, its breaker stops requests to an endpoint that keeps
failing, and its tokens enforce the rate limit set by the endpoint's owner. Times are monotonic
seconds.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

FIRST_WINDOW = 8.0
MIN_WINDOW, MAX_WINDOW = 1.0, 32.0
GROWTH = 1 / 50
"""A full window grows by one after fifty successes; below FIRST_WINDOW, after each success."""
DOUBTFUL_S, SLOW_S = 0.3, 1.0
"""A lane is doubtful if its responses take longer than DOUBTFUL_S, slow beyond SLOW_S."""
TRIP_STREAK = 5
"""The number of consecutive requests without a response that opens the breaker."""
TRIP_COUNT, TRIP_SHARE, TRIP_SPAN_S = 10, 0.7, 60.0
"""The breaker also opens at this share of failures among TRIP_COUNT or more requests in a span."""
FIRST_PAUSE_S, MAX_PAUSE_S = 15.0, 600.0

ORDINARY, RESERVE = 400, 100
"""Numbers of slots. Each stuck request opens a slot of the reserve, which only quick lanes may use:
if many endpoints begin to hang at once, healthy ones find slots again after DOUBTFUL_S."""
RESERVE_EACH = 8
"""A lane with this number of requests in flight gets no slot of the reserve."""
MAX_IN_FLIGHT = ORDINARY + RESERVE
MAX_DOUBTFUL = 200
"""Requests in flight to lanes that are slow, doubtful or not proven."""
MAX_SLOW = 100
MAX_YIELDING = 280
"""Retries and replays in flight; the rest of the ordinary slots is for first attempts."""
CLAIMS_PER_FILL = 8
"""A busy dispatcher claims only when an eighth of the slots is free."""


def choose_in_flight_limit(stuck: int) -> int:
    """How many requests may be in flight if `stuck` of them are stuck."""
    return ORDINARY + min(stuck, RESERVE)


def choose_claim_size(stuck: int) -> int:
    """How many slots must be free before a claim is worthwhile."""
    return max(min(ORDINARY, MAX_IN_FLIGHT - stuck) // CLAIMS_PER_FILL, 1)


@dataclass(slots=True)
class Lane:
    """The state of one endpoint."""

    window: float = FIRST_WINDOW
    in_flight: dict[int, float] = field(default_factory=dict)
    """The start time of each request by the token of its delivery, the oldest first."""
    closed_until: float = 0.0
    closure_saved_at: float = math.inf
    """When the database received `closed_until`."""
    response_s: float = SLOW_S
    """The duration of the last response. A lane without a response counts as slow."""
    proven: bool = False
    trips: int = 0
    """How often the breaker has opened since the last success; above 0 it is half-open."""
    lost_streak: int = 0
    span_end: float = 0.0
    successes: int = 0
    failures: int = 0
    rate_limit: int | None = None
    tokens: float = 0.0
    tokens_at: float = 0.0
    unsaved_success: bool = False
    unsaved_failures: int = 0
    """Failures since the last success or the last save."""

    def update_settings(self, rate_limit: int | None, trips: int, now: float) -> None:
        """Takes over the database's values; `trips` counts only for a lane without history."""
        if rate_limit != self.rate_limit:
            self.rate_limit, self.tokens, self.tokens_at = rate_limit, float(rate_limit or 0), now
        if not self.proven and trips and not self.trips:
            self.trips, self.window = trips, MIN_WINDOW

    def start_request(self, token: int, now: float) -> None:
        """Occupies a slot and a token of the rate limit."""
        self.in_flight[token] = now
        self.tokens -= 1

    def finish_request(self, token: int) -> None:
        """Frees the slot of a request."""
        del self.in_flight[token]

    def record_success(self, now: float, response_s: float) -> None:
        """Closes the breaker and widens the window."""
        self._start_span_if_over(now)
        self.successes += 1
        self.response_s = response_s
        self.unsaved_success, self.unsaved_failures, self.proven = True, 0, True
        self.trips = self.lost_streak = 0
        if len(self.in_flight) >= int(self.window):
            step = 1.0 if self.window < FIRST_WINDOW else GROWTH
            self.window = min(self.window + step, MAX_WINDOW)

    def record_failure(
        self, now: float, response_s: float, *, unreachable: bool, overloaded: bool
    ) -> float:
        """Records a failure; returns the seconds for which the breaker opens, 0 if it does not.

        `unreachable`: there was no response. `overloaded`: fewer requests at once may help.
        """
        self._start_span_if_over(now)
        self.failures += 1
        self.unsaved_failures += 1
        self.lost_streak = self.lost_streak + 1 if unreachable else 0
        self.response_s = max(self.response_s, response_s, SLOW_S if unreachable else 0.0)
        if overloaded:
            self.window = max(self.window / 2, MIN_WINDOW)
        if now < self.closed_until or not (self.trips or self._is_failing()):
            return 0.0
        pause_s = min(FIRST_PAUSE_S * (1 << self.trips), MAX_PAUSE_S)
        self.trips = min(self.trips + 1, 10)
        self.window, self.successes, self.failures, self.lost_streak = MIN_WINDOW, 0, 0, 0
        self.close(now + pause_s)
        return pause_s

    def close(self, until: float) -> None:
        """Allows no request before `until`."""
        if until > self.closed_until:
            self.closed_until, self.closure_saved_at = until, math.inf

    def record_closure_saved(self, until: float, now: float) -> None:
        """Records that the database has stored the closure until `until`."""
        if until >= self.closed_until:
            self.closure_saved_at = now

    def reopen_if_saved_before(self, queried_at: float) -> None:
        """Reopens a lane that the database reported as open at `queried_at`: the owner reset it."""
        if self.closure_saved_at < queried_at < self.closed_until:
            self.closed_until, self.trips, self.lost_streak = 0.0, 0, 0

    def count_free(self, now: float) -> int:
        """How many more requests may start."""
        if now < self.closed_until:
            return 0
        free = max(int(self.window) - len(self.in_flight), 0)
        if self.rate_limit is None:
            return free
        earned = (now - self.tokens_at) * self.rate_limit
        self.tokens, self.tokens_at = min(self.tokens + earned, float(self.rate_limit)), now
        return min(free, max(int(self.tokens), 0))

    def find_oldest_age(self, now: float) -> float:
        """The age of the oldest request in flight, 0 if there is none."""
        return now - next(iter(self.in_flight.values())) if self.in_flight else 0.0

    def is_slow(self, now: float) -> bool:
        """Whether the oldest request in flight or the last response took long."""
        return max(self.find_oldest_age(now), self.response_s) > SLOW_S

    def is_quick(self, now: float) -> bool:
        """Whether the endpoint has succeeded and responds quickly."""
        return self.proven and max(self.find_oldest_age(now), self.response_s) <= DOUBTFUL_S

    def _is_failing(self) -> bool:
        count = self.successes + self.failures
        is_mostly_failing = count >= TRIP_COUNT and self.failures >= TRIP_SHARE * count
        return is_mostly_failing or self.lost_streak >= TRIP_STREAK

    def _start_span_if_over(self, now: float) -> None:
        if now > self.span_end:
            self.successes, self.failures, self.span_end = 0, 0, now + TRIP_SPAN_S


class Slots:
    """The slots that are free at one moment, by kind of lane."""

    def __init__(self, lanes: Iterable[Lane], now: float) -> None:
        self._now = now
        self._ordinary, stuck = ORDINARY, 0
        self._doubtful, self._slow = MAX_DOUBTFUL, MAX_SLOW
        for lane in lanes:
            if lane.in_flight:
                self.occupy(lane, len(lane.in_flight))
                stuck += len(lane.in_flight) if lane.find_oldest_age(now) > DOUBTFUL_S else 0
        self._reserve = min(stuck, RESERVE)

    def count_for(self, lane: Lane) -> int:
        """How many slots this lane may use; below 1: none."""
        if lane.is_quick(self._now):
            spare = min(self._ordinary + self._reserve, RESERVE_EACH - len(lane.in_flight))
            return max(self._ordinary, spare)
        bound = min(self._ordinary, self._doubtful)
        return min(bound, self._slow) if lane.is_slow(self._now) else bound

    def occupy(self, lane: Lane, count: int) -> None:
        """Marks `count` slots as used by the lane."""
        self._ordinary -= count
        if not lane.is_quick(self._now):
            self._doubtful -= count
            self._slow -= count if lane.is_slow(self._now) else 0


class Lanes(defaultdict[str, Lane]):
    """All lanes of a dispatcher, by endpoint."""

    def __init__(self) -> None:
        super().__init__(Lane)

    def count_stuck(self, now: float) -> int:
        """The number of requests in flight in lanes with one older than DOUBTFUL_S."""
        return sum(
            len(lane.in_flight)
            for lane in self.values()
            if lane.in_flight and lane.find_oldest_age(now) > DOUBTFUL_S
        )

    def allot(self, due: Sequence[str], now: float, free_slots: int) -> dict[str, int]:
        """How many more requests each due lane may start; lanes that may start none are absent.

        Slow lanes share a bounded part of all slots, and so do slow and doubtful lanes together.
        So broken endpoints, however many, do not delay the others.
        """
        slots = Slots(self.values(), now)
        # With many due lanes each gets few slots at a time, so that few connections serve it.
        fair = max(2 * ORDINARY // max(len(due), 1), 1)
        allotted: dict[str, int] = {}
        for endpoint_id in due:
            lane = self[endpoint_id]
            bound = min(free_slots, fair - len(lane.in_flight), slots.count_for(lane))
            share = min(lane.count_free(now), bound)
            if share > 0:
                allotted[endpoint_id] = share
                free_slots -= share
                slots.occupy(lane, share)
        return allotted

    def pop_unsaved_health(self) -> list[tuple[str, bool, int, int]]:
        """For each changed lane: endpoint, whether a request succeeded, failures since, trips."""
        unsaved = []
        for endpoint_id, lane in self.items():
            if lane.unsaved_success or lane.unsaved_failures:
                health = endpoint_id, lane.unsaved_success, lane.unsaved_failures, lane.trips
                unsaved.append(health)
                lane.unsaved_success, lane.unsaved_failures = False, 0
        return unsaved
