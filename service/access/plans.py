"""Plans: the limits of API keys (pure)."""

from collections.abc import Iterator
from functools import lru_cache

import msgspec

MINUTE_S, DAY_S = 60, 86400
MAX_LIMIT = 2_000_000_000
CONCURRENT = "concurrent"


class Plan(msgspec.Struct, frozen=True):
    """The limits of each key of a tenant; None: no limit. Minutes and days begin in UTC."""

    name: str
    per_minute: int | None = None
    per_day: int | None = None
    concurrent: int | None = None
    """Requests being handled at the same time."""
    routes: dict[str, int] = {}
    """Additional limits per minute of single routes, such as {"POST /leads": 30}."""


class Rule(msgspec.Struct, frozen=True):
    """A limit on requests per window or on concurrent requests; `name` is unique within a key."""

    name: str
    limit: int
    span_s: int = 0
    """Length of the window in seconds; 0: concurrent requests are limited."""


@lru_cache(maxsize=1024)
def read_plan(text: str) -> Plan:
    """Decode the JSON of api_key_get_many_by_hash; equal texts return the same object."""
    return msgspec.json.decode(text, type=Plan)


def list_rules(plan: Plan, route: str) -> Iterator[Rule]:
    """The rules that apply to a request to the route, such as `POST /leads`."""
    if route in plan.routes:
        yield Rule(route, plan.routes[route], MINUTE_S)
    if plan.per_minute is not None:
        yield Rule("minute", plan.per_minute, MINUTE_S)
    if plan.per_day is not None:
        yield Rule("day", plan.per_day, DAY_S)
    if plan.concurrent is not None:
        yield Rule(CONCURRENT, plan.concurrent)
