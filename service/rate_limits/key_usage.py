"""The shares that one process has of the limits of one API key (pure)."""

import secrets
from collections.abc import Iterable, Sequence

from service.access.plans import CONCURRENT, Plan, Rule, list_rules
from service.rate_limits.share import Share

IDLE_S = 0.1
"""A key without a request for this long is granted nothing ahead."""


class KeyUsage:
    """The windows and concurrency slots of a key under its plan."""

    __slots__ = ("_by_route", "_shares", "holder", "key_id", "plan", "slots", "used_at")

    def __init__(self, key_id: str, plan: Plan, now: float) -> None:
        self.key_id = key_id
        self.holder = secrets.token_hex(8)
        """Name of this object in Redis; a later object for the same key has another name."""
        self.used_at = now
        self.slots = Share(Rule(CONCURRENT, 0), now)
        self._shares = {CONCURRENT: self.slots}
        self.set_plan(plan)

    def set_plan(self, plan: Plan) -> None:
        """Change to another plan; requests counted so far keep counting."""
        self.plan = plan
        self._by_route: dict[str, Sequence[Share]] = {}

    def list_shares(self, route: str, now: float) -> Sequence[Share]:
        """The shares in which a request to the route needs room; restart windows that ended."""
        found = self._by_route.get(route)
        if found is None:
            found = [self._find_share(rule, now) for rule in list_rules(self.plan, route)]
            self._by_route[route] = found
        for share in found:
            if now >= share.ends_at:
                share.start(now)
        return found

    def _find_share(self, rule: Rule, now: float) -> Share:
        share = self._shares.setdefault(rule.name, Share(rule, now))
        share.set_rule(rule)
        return share

    def use(self, shares: Iterable[Share], now: float) -> None:
        """Count an admitted request, also in the slots, because a later plan may limit them."""
        for share in shares:
            if share is not self.slots:
                share.used += 1
        self.slots.used += 1
        self.used_at = now

    def list_current(self, now: float) -> Sequence[Share]:
        """The shares whose window has not ended."""
        shares = self._shares.values()
        return [share for share in shares if share.rule.limit and now < share.ends_at]

    def is_idle(self, now: float) -> bool:
        return now - self.used_at >= IDLE_S

    def is_open(self, now: float) -> bool:
        """Whether Redis needs another report of the key, if only to keep its slots in use."""
        return any(
            share.used != share.granted or (share is self.slots and share.used > 0)
            for share in self.list_current(now)
        )

    def has_surplus(self, now: float) -> bool:
        """Whether a share has more granted than it needs."""
        idle = self.is_idle(now)
        return any(share.has_surplus(idle=idle) for share in self.list_current(now))
