"""A lane: what one dispatcher knows about one endpoint while it sends there (pure, no I/O)."""

import time
from dataclasses import dataclass, field

FIRST_WINDOW = 8.0
MIN_WINDOW, MAX_WINDOW = 1.0, 32.0
SLOW_S = 2.0
"""An endpoint whose oldest open request is older than this shares a bounded part of all slots."""
GROWTH = 1 / 50
"""Fifty successes under a full window widen it by one."""


@dataclass(slots=True)
class Lane:
    """`window` bounds the requests in flight: it grows slowly with success, halves with trouble."""

    window: float = FIRST_WINDOW
    begun: dict[int, float] = field(default_factory=dict)
    """Requests in flight, by token: when each began. Python keeps them in that order."""
    closed_until: float = 0.0
    """Monotonic time before which nothing is taken from the database for it."""
    succeeded: bool = False
    """Since the tally was taken."""
    failed: int = 0
    trips: int = 0

    def begin(self, token: int) -> None:
        """A request starts."""
        self.begun[token] = time.monotonic()

    def end(self, token: int) -> None:
        """It is settled."""
        del self.begun[token]

    def note_success(self) -> None:
        """2xx."""
        self.succeeded, self.failed = True, 0
        if len(self.begun) >= int(self.window):
            self.window = min(self.window + GROWTH, MAX_WINDOW)

    def note_failure(self, *, crowded: bool) -> None:
        """Anything else; `crowded`: in a way that asks for fewer requests at once."""
        self.failed += 1
        if crowded:
            self.window = max(self.window / 2, MIN_WINDOW)

    def count_free(self, now: float) -> int:
        """How many more requests may begin."""
        return 0 if now < self.closed_until else max(int(self.window) - len(self.begun), 0)

    def is_slow(self, now: float) -> bool:
        """Whether a request has been open for long."""
        return any(now - begun > SLOW_S for begun in list(self.begun.values())[:1])
