"""The share that one process has of one limit of an API key (pure).

A limit is a fixed window (a number of requests per minute or day) or concurrency slots (a number of
concurrent requests). Redis stores how much of it is granted to each process. A busy process gets
grants in advance, to save a round trip per request, but at most a sixteenth of the remainder: the
last requests are granted one by one. A process returns grants that it does not need.
"""

from math import inf

from service.access.plans import Rule

AHEAD_PART, MOST_AHEAD = 16, 1000
SPENT_S = 0.02
"""How long a refusal by Redis stands. After that, other processes may have returned grants."""


class Share:
    """`used` counts the requests of this process; `granted` and `others` are grants.

    `granted` is the number granted to this process, `others` the number granted to the others.
    """

    __slots__ = (
        "_wanted",
        "ends_at",
        "granted",
        "headers",
        "others",
        "rule",
        "spent_until",
        "used",
    )

    def __init__(self, rule: Rule, now: float) -> None:
        self.rule = rule
        self.start(now)

    def start(self, now: float) -> None:
        """Begin the current window. Slots have one window without end."""
        span_s = self.rule.span_s
        self.ends_at = (now // span_s + 1) * span_s if span_s else inf
        self.used = self.granted = self.others = 0
        self._wanted: int | None = None
        """The number requested by the call in flight; None: there is none for this window."""
        self.spent_until = 0.0
        self.set_rule(self.rule)

    def set_rule(self, rule: Rule) -> None:
        """Replace the rule by one of the same name, perhaps with another limit."""
        self.rule = rule
        self.headers = [
            (b"x-ratelimit-limit", b"%d" % rule.limit),
            (b"x-ratelimit-reset", b"%.0f" % self.ends_at),
        ]

    @property
    def remaining(self) -> int:
        """The remainder of the limit, as of the last response of Redis."""
        return max(self.rule.limit - self.others - self.used, 0)

    def has_room(self, sharers: int) -> bool:
        """Whether one more request fits; `sharers` processes divide the limit if Redis is away."""
        if sharers:
            return self.used * sharers < self.rule.limit
        # More than the limit may be granted if the limit was lowered while more was in use.
        return self.used < self.granted and self.used < self.rule.limit

    def has_surplus(self, *, idle: bool) -> bool:
        """Whether more is granted than would be granted now; an idle key gets none in advance."""
        ahead = 0 if idle else min(self.remaining // AHEAD_PART, MOST_AHEAD)
        return self.granted > self.used + ahead

    def request(self, waiting: int, *, idle: bool) -> list[int]:
        """The numbers for limits.lua; grants beyond used and waiting requests are returned."""
        wanted = self._wanted = self.used + waiting
        # limits.lua restores lost grants from these; of slots, each process reports its own.
        known = (self.granted, self.others) if self.rule.span_s else (0, 0)
        self.granted = min(self.granted, wanted)
        return [self.rule.limit, self.used, wanted, 0 if idle else MOST_AHEAD, *known]

    def apply_grant(self, granted: int, others: int, now: float) -> None:
        """Store the response of Redis."""
        if self._wanted is not None:
            self.granted, self.others = granted, others
            if granted <= self.used < self._wanted:
                self.spent_until = now + SPENT_S
