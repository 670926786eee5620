"""What one process knows of one API key: its windows and its places (pure, no I/O)."""

from collections.abc import Sequence

from service.limits.plans import Plan, Rule, list_rules
from service.limits.windows import Window

FULL_S = 0.02
"""How long "no place is free" is believed."""


class Tally:
    """`in_flight` requests of the key are at work here; `places` are ours to fill."""

    __slots__ = ("_by_route", "_full_until", "_windows", "in_flight", "key_id", "peak", "places",
                 "plan", "seen_at")  # fmt: skip

    def __init__(self, key_id: str, plan: Plan) -> None:
        self.key_id = key_id
        self.in_flight = 0
        self.peak = 0
        """The most in flight since places were last given back."""
        self.places = 0
        self.seen_at = 0.0
        self._full_until = 0.0
        self._windows: dict[str, Window] = {}
        self._by_route: dict[str, Sequence[Window]] = {}
        self.plan = plan

    def follow(self, plan: Plan) -> None:
        """Takes over a plan that has changed; what has been let through counts on."""
        self.plan = plan
        self._by_route.clear()

    def list_windows(self, route: str, now: float) -> Sequence[Window]:
        """Those of a route, as of now."""
        found = self._by_route.get(route)
        if found is None:
            found = self._by_route[route] = [
                self._find_window(rule, now) for rule in list_rules(self.plan, route)
            ]
        for window in found:
            window.roll(now)
        return found

    def _find_window(self, rule: Rule, now: float) -> Window:
        window = self._windows.get(rule.name)
        if window is None:
            window = self._windows[rule.name] = Window(rule, now)
        window.follow(rule)
        return window

    @property
    def windows(self) -> Sequence[Window]:
        return list(self._windows.values())

    @property
    def holds_something(self) -> bool:
        """Whether Redis is to hear of it again."""
        busy = self.in_flight or self.places
        return bool(busy) or any(window.is_open for window in self._windows.values())

    @property
    def has_place(self) -> bool:
        """Whether one more request may be at work here."""
        return self.plan.concurrent is None or self.in_flight < self.places

    def is_full(self, now: float) -> bool:
        """No place is free, and none was to be had a moment ago."""
        return not self.has_place and now < self._full_until

    def begin(self, windows: Sequence[Window]) -> None:
        """A request is let through."""
        for window in windows:
            window.take()
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def end(self) -> None:
        """It has its answer."""
        self.in_flight -= 1

    def hear(self, wanted: int, places: int, now: float) -> None:
        """So many places are ours now; `wanted` were asked for."""
        self.places = places
        if places < wanted:
            self._full_until = now + FULL_S
