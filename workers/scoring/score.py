"""From a lead and the rules to a score with its reasons. Pure: the clock comes as an argument.

Each rule looks at one feature and gives at most one factor; what gives nothing is not listed. The
caps of the built-in rules add up to 100, so a score is the plain sum of its factors. Rules that
add up to more, or a sum below 0, are cut by a factor of their own, so that it still adds up.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from service.leads.scores import Factor
from workers.scoring.amounts import parse_number, parse_yearly_sum
from workers.scoring.mail_domains import classify_domain
from workers.scoring.seniority import find_seniority

MAX_VALUE_LENGTH = 100
"""A factor shows this much of a text."""


class Step(msgspec.Struct, frozen=True):
    """From this number on, these points."""

    least: float
    points: int


class Freshness(msgspec.Struct, frozen=True):
    """Until this many days after the last activity, these points."""

    days: int
    points: int


def _points(points: dict[str, int]) -> Any:
    return msgspec.field(default_factory=points.copy)


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What counts and how much. `version` changes whenever the same lead may score otherwise."""

    version: str = "builtin-1"
    known_field: int = 2
    """For each of name, company, title and phone."""
    domains: Mapping[str, int] = _points({"company": 6, "free": 0, "disposable": -10})
    seniorities: Mapping[str, int] = _points({
        "executive": 16, "vp": 14, "director": 12, "manager": 8, "staff": 3, "junior": 0,
    })  # fmt: skip
    budget_fields: tuple[str, ...] = ("budget", "annualbudget", "yearlybudget", "budgetrange")
    """Names of custom fields, in lower case and without anything but letters and digits."""
    budget_steps: tuple[Step, ...] = (
        Step(100_000, 14), Step(50_000, 11), Step(10_000, 8), Step(1_000, 4), Step(1, 1),
    )  # fmt: skip
    """US dollars a year, highest first."""
    team_size_fields: tuple[str, ...] = (
        "teamsize", "companysize", "employees", "numberofemployees", "headcount",
    )  # fmt: skip
    team_size_steps: tuple[Step, ...] = (
        Step(1_000, 8), Step(200, 7), Step(50, 5), Step(10, 3), Step(1, 1),
    )  # fmt: skip
    tags: Mapping[str, int] = _points({
        "hot-lead": 6, "hot": 6, "demo-requested": 6, "enterprise": 5, "referral": 5, "pricing": 5,
        "trial": 4, "partner": 3, "inbound": 3, "webinar": 2, "event": 2, "newsletter": 1,
        "unsubscribed": -10, "competitor": -20, "job-seeker": -20, "spam": -50,
    })  # fmt: skip
    tags_cap: int = 12
    sources: Mapping[str, int] = _points({"chat": 8, "form": 6, "api": 3, "import": 0})
    conversation: int = 2
    conversations_cap: int = 6
    intents: Mapping[str, int] = _points({
        "purchase": 12, "demo_request": 12, "pricing": 9, "trial": 9, "integration": 5,
    })  # fmt: skip
    other_intent: int = 2
    statuses: Mapping[str, int] = _points({
        "new": 0, "contacted": 2, "qualified": 4, "converted": 4, "lost": -30,
    })  # fmt: skip
    freshness: tuple[Freshness, ...] = (Freshness(7, 6), Freshness(30, 4), Freshness(90, 2))
    """Soonest first."""


BUILTIN_RULES = Rules()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules look at."""

    email_key: str
    name: str | None = None
    company: str | None = None
    title: str | None = None
    phone: str | None = None
    status: str = "new"
    source: str = "api"
    tags: list[str] = []
    custom_fields: dict[str, Any] = {}
    conversation_count: int = 0
    last_intent: str | None = None
    last_active_at: datetime


class Score(msgspec.Struct, frozen=True):
    """`factors` sum to `score`, greatest first; at `stale_at` time alone may change them."""

    score: int
    factors: list[Factor]
    stale_at: datetime | None


def score_lead(facts: Facts, rules: Rules, now: datetime) -> Score:
    """The score of a lead at a time; the same arguments give the same factors in the same order.

    Never raises, whatever a lead holds.
    """
    found = [factor for rate in _RULES if (factor := rate(facts, rules)) and factor.contribution]
    freshness, stale_at = _rate_freshness(facts, rules, now)
    found += [freshness] if freshness else []
    total = sum(factor.contribution for factor in found)
    score = min(max(total, 0), 100)
    if score != total:
        note = "a score ends at 100" if total > score else "a score starts at 0"
        found.append(Factor("limit", total, score - total, note))
    found.sort(key=lambda factor: -factor.contribution)
    return Score(score, found, stale_at)


def _rate_completeness(facts: Facts, rules: Rules) -> Factor:
    values = {"name": facts.name, "company": facts.company, "title": facts.title,
              "phone": facts.phone}  # fmt: skip
    known = [name for name, value in values.items() if value and value.strip()]
    points = rules.known_field * len(known)
    return Factor("completeness", ", ".join(known), points, f"{len(known)} of {len(values)} known")


def _rate_domain(facts: Facts, rules: Rules) -> Factor:
    domain = facts.email_key.rpartition("@")[2]
    kind = classify_domain(domain)
    return Factor("email", _cut(domain), rules.domains.get(kind, 0), f"{kind} address")


def _rate_title(facts: Facts, rules: Rules) -> Factor | None:
    if not facts.title or not facts.title.strip():
        return None
    seniority = find_seniority(facts.title)
    return Factor("title", _cut(facts.title), rules.seniorities.get(seniority, 0), seniority)


def _rate_budget(facts: Facts, rules: Rules) -> Factor | None:
    name, value = _find_field(facts.custom_fields, rules.budget_fields)
    amount = parse_yearly_sum(value)
    if amount is None:
        return None
    points = _find_points(amount, rules.budget_steps)
    return Factor(f"customFields.{name}", _cut(value), points, f"budget of about {amount:,.0f}")


def _rate_team_size(facts: Facts, rules: Rules) -> Factor | None:
    name, value = _find_field(facts.custom_fields, rules.team_size_fields)
    size = parse_number(value)
    if size is None:
        return None
    points = _find_points(size, rules.team_size_steps)
    return Factor(f"customFields.{name}", _cut(value), points, f"team of {size:,.0f} or more")


def _rate_tags(facts: Facts, rules: Rules) -> Factor:
    known = {re.sub(r"[\s_]+", "-", tag.strip().lower()): tag for tag in facts.tags}
    points = {tag: rules.tags[plain] for plain, tag in known.items() if rules.tags.get(plain)}
    total = sum(points.values())
    note = f"at most {rules.tags_cap} for tags" if total > rules.tags_cap else "tags that tell"
    return Factor("tags", ", ".join(points), min(total, rules.tags_cap), note)


def _rate_source(facts: Facts, rules: Rules) -> Factor:
    return Factor("source", facts.source, rules.sources.get(facts.source, 0), "where it came from")


def _rate_conversations(facts: Facts, rules: Rules) -> Factor:
    count = facts.conversation_count
    points = min(count * rules.conversation, rules.conversations_cap)
    return Factor("conversationCount", count, points, "has talked to us")


def _rate_intent(facts: Facts, rules: Rules) -> Factor | None:
    if not facts.last_intent:
        return None
    points = rules.intents.get(facts.last_intent, rules.other_intent)
    return Factor("lastIntent", _cut(facts.last_intent), points, "what it wanted last")


def _rate_status(facts: Facts, rules: Rules) -> Factor:
    return Factor(
        "status", facts.status, rules.statuses.get(facts.status, 0), "how far it has come"
    )


_RULES: tuple[Callable[[Facts, Rules], Factor | None], ...] = (
    _rate_title,
    _rate_budget,
    _rate_intent,
    _rate_tags,
    _rate_completeness,
    _rate_source,
    _rate_team_size,
    _rate_domain,
    _rate_conversations,
    _rate_status,
)


def _rate_freshness(
    facts: Facts, rules: Rules, now: datetime
) -> tuple[Factor | None, datetime | None]:
    """The points for being active lately, and when they will be fewer."""
    for step in rules.freshness:
        ends_at = facts.last_active_at + timedelta(days=step.days)
        if now < ends_at:
            value = f"within {step.days} days"
            return Factor("lastActiveAt", value, step.points, "was active lately"), ends_at
    return None, None


def _find_field(fields: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    """The first custom field that has one of the names, however it is written."""
    for name, value in fields.items():
        if _simplify(name) in names:
            return name, value
    return "", None


@lru_cache(maxsize=4096)  # a tenant's leads have the same custom fields
def _simplify(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _find_points(amount: float, steps: tuple[Step, ...]) -> int:
    return next((step.points for step in steps if amount >= step.least), 0)


def _cut(value: Any) -> Any:
    return value[:MAX_VALUE_LENGTH] if isinstance(value, str) else value
