"""The scoring rules: which features of a lead count, and their points."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Threshold(msgspec.Struct, frozen=True):
    """The points for an amount of `minimum` or more."""

    minimum: float
    points: int


class Freshness(msgspec.Struct, frozen=True):
    """The points for activity within the last `days`."""

    days: int
    points: int


def _make_default(points: dict[str, int]) -> Any:
    return msgspec.field(default_factory=points.copy)


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The points of each feature. `version` changes with every change of the points."""

    version: str = "builtin-1"
    known_field: int = 2
    """The points for each of name, company, title and phone."""
    domains: Mapping[str, int] = _make_default({"company": 6, "free": 0, "disposable": -10})
    seniorities: Mapping[str, int] = _make_default(
        {
            "executive": 16,
            "vp": 14,
            "director": 12,
            "manager": 8,
            "staff": 3,
            "junior": 0,
        }
    )
    budget_fields: tuple[str, ...] = ("budget", "annualbudget", "yearlybudget", "budgetrange")
    """Names of custom fields: lower case, letters and digits only, without units."""
    budget_thresholds: tuple[Threshold, ...] = (
        Threshold(100_000, 14),
        Threshold(50_000, 11),
        Threshold(10_000, 8),
        Threshold(1_000, 4),
        Threshold(1, 1),
    )
    """Minimums in US dollars a year, highest first."""
    team_size_fields: tuple[str, ...] = (
        "teamsize",
        "companysize",
        "employees",
        "numberofemployees",
        "employeecount",
        "numemployees",
        "headcount",
    )
    team_size_thresholds: tuple[Threshold, ...] = (
        Threshold(1_000, 8),
        Threshold(200, 7),
        Threshold(50, 5),
        Threshold(10, 3),
        Threshold(1, 1),
    )
    tags: Mapping[str, int] = _make_default(
        {
            "hot-lead": 6,
            "hot": 6,
            "demo-requested": 6,
            "enterprise": 5,
            "referral": 5,
            "pricing": 5,
            "trial": 4,
            "partner": 3,
            "inbound": 3,
            "webinar": 2,
            "event": 2,
            "newsletter": 1,
            "unsubscribed": -10,
            "competitor": -20,
            "job-seeker": -20,
            "spam": -50,
        }
    )
    tags_cap: int = 12
    sources: Mapping[str, int] = _make_default({"chat": 8, "form": 6, "api": 3, "import": 0})
    conversation: int = 2
    conversations_cap: int = 6
    intents: Mapping[str, int] = _make_default(
        {
            "purchase": 12,
            "demo_request": 12,
            "pricing": 9,
            "trial": 9,
            "integration": 5,
        }
    )
    other_intent: int = 2
    statuses: Mapping[str, int] = _make_default(
        {
            "new": 0,
            "contacted": 2,
            "qualified": 4,
            "converted": 4,
            "lost": -30,
        }
    )
    freshness: tuple[Freshness, ...] = (Freshness(7, 6), Freshness(30, 4), Freshness(90, 2))
    """By days, ascending."""


BUILTIN_RULES = Rules()
