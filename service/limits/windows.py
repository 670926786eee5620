"""The minute or day that is now under one rule, as one process knows it (pure, no I/O).

All processes count in Redis. To ask there for every request would cost a round trip each, so a
process has more granted than it needs at once: as much as it has lately used, at most a sixteenth
of what is left, so that the last requests of a window are granted one by one and none is stranded.
What it does not use within a second it gives back. While Redis is away each process lets through
its share.
"""

import msgspec

from service.limits.plans import Rule

PART_OF_REST = 16
MOST_AHEAD = 1000
BUSY_S, IDLE_S = 0.5, 1.0
"""Asked again sooner than BUSY_S: twice as much ahead; not used for IDLE_S: given back."""
SPENT_S = 0.1
"""How long "nothing is left" is believed: others may give back."""


class Ask(msgspec.Struct, frozen=True):
    """What a window wants of Redis; see limits.lua."""

    window: "Window"
    ends_at: int
    limit: int
    least: int
    """Below 0: it gives back."""
    most: int
    unreported: int
    known: int


class Window:
    """Requests let through and to be let through until `ends_at`, in Unix seconds."""

    __slots__ = ("_ahead", "_asked_at", "_known", "_spent_until", "_taken", "_unreported",
                 "ends_at", "headers", "held", "rule")  # fmt: skip

    def __init__(self, rule: Rule, now: float) -> None:
        self.rule = rule
        self._begin(now)

    def _begin(self, now: float) -> None:
        span_s = self.rule.span_s
        self.ends_at = (int(now) // span_s + 1) * span_s
        self.headers = [
            (b"x-ratelimit-limit", b"%d" % self.rule.limit),
            (b"x-ratelimit-reset", b"%d" % self.ends_at),
        ]
        """What an answer says of it, whatever is left."""
        self.held = 0
        """Granted to us and not used yet."""
        self._known = 0
        """Used or held by all processes, as last heard."""
        self._taken = 0
        """Let through here."""
        self._unreported = 0
        """Let through here, or about to be, while Redis was away."""
        self._ahead = 1
        self._asked_at = 0.0
        self._spent_until = 0.0

    def follow(self, rule: Rule) -> None:
        """A rule of the same name and span, perhaps with another limit."""
        self.rule = rule
        self.headers[0] = (b"x-ratelimit-limit", b"%d" % rule.limit)

    def roll(self, now: float) -> None:
        """When the window is over, the next one begins."""
        if now >= self.ends_at:
            self._begin(now)

    @property
    def remaining(self) -> int:
        """How many more requests the key may make, as far as we know."""
        return max(self.rule.limit - self._known, 0) + self.held

    def is_spent(self, now: float) -> bool:
        """Nothing is held and nothing was to be had a moment ago."""
        return not self.held and now < self._spent_until

    def take(self) -> None:
        """Lets a request through; only if some are held."""
        self.held -= 1
        self._taken += 1

    def ask_for(self, waiting: int, now: float) -> Ask | None:
        """What to ask for when so many wait; None if they can be served."""
        least = waiting - self.held
        if least <= 0:
            return None
        is_busy = now - self._asked_at < BUSY_S
        self._ahead = min(self._ahead * 2, MOST_AHEAD) if is_busy else max(self._ahead // 2, 1)
        self._asked_at = now
        return self._ask(least, least + self._ahead)

    @property
    def is_open(self) -> bool:
        """Something is to be given back or reported."""
        return bool(self.held or self._unreported)

    def give_back(self, now: float, idle_s: float) -> Ask | None:
        """What to give back: all that has not been used for a while."""
        if not self.is_open or now >= self.ends_at or now - self._asked_at < idle_s:
            return None
        held, self.held = self.held, 0
        return self._ask(-held, -held)

    def _ask(self, least: int, most: int) -> Ask:
        return Ask(self, self.ends_at, self.rule.limit, least, most, self._unreported, self._known)

    def hear(self, ask: Ask, granted: int, used: int, now: float) -> None:
        """The answer to what was asked; too late if the window is over meanwhile."""
        if self.ends_at != ask.ends_at:
            return
        self.held += max(granted, 0)
        self._known = used
        self._unreported -= ask.unreported
        if granted == 0 < ask.least:
            self._spent_until = now + SPENT_S

    def lend(self, ask: Ask, processes: int, now: float) -> None:
        """As `hear`, while Redis is away: what is left of this process's share of the limit."""
        if self.ends_at != ask.ends_at or ask.least <= 0:
            return
        share = -(-self.rule.limit // processes)
        lent = max(min(ask.least, share - self._taken - self.held), 0)
        self.held += lent
        self._unreported += lent
        if not lent:
            self._spent_until = now + SPENT_S
