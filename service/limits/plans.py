"""What a plan lets an API key do (pure)."""

from collections.abc import Iterator
from functools import lru_cache

import msgspec

MINUTE_S, DAY_S = 60, 86400
NAME = "^[a-z][a-z0-9-]{0,39}$"
MOST = 2_000_000_000


class Plan(msgspec.Struct, frozen=True):
    """The limits of each key of a tenant; None: none. Minutes and days are the clock's, in UTC."""

    name: str
    per_minute: int | None = None
    per_day: int | None = None
    concurrent: int | None = None
    """Requests at work at a time."""
    routes: dict[str, int] = {}
    """Stricter limits a minute, such as {"POST /leads": 30}; they count beside the others."""


class Rule(msgspec.Struct, frozen=True):
    """So many requests in each span of seconds. `name` tells a key's rules apart."""

    name: str
    limit: int
    span_s: int

    @property
    def span(self) -> str:
        return "day" if self.span_s == DAY_S else "minute"

    @property
    def words(self) -> str:
        """What a key may make, as a part of a sentence."""
        where = f" to {self.name}" if " " in self.name else ""
        return f"{self.limit:,} requests a {self.span}{where}"


@lru_cache(maxsize=1024)
def read_plan(text: str) -> Plan:
    """A plan from the JSON of api_key_get_many_by_hash; equal texts give the same object."""
    return msgspec.json.decode(text, type=Plan)


def list_rules(plan: Plan, route: str) -> Iterator[Rule]:
    """What a request to the route, such as `POST /leads`, has to keep to."""
    if route in plan.routes:
        yield Rule(route, plan.routes[route], MINUTE_S)
    if plan.per_minute is not None:
        yield Rule("minute", plan.per_minute, MINUTE_S)
    if plan.per_day is not None:
        yield Rule("day", plan.per_day, DAY_S)
