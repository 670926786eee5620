"""Computes the score of a lead by rules, with its factors. Pure: the time is an argument.

Each rule rates one feature and returns at most one factor; factors without points are left out. The
caps of the built-in rules add up to 100, so that a score is the sum of its factors. If the sum is
above 100 or below 0, a `limit` factor makes up the difference.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from service.leads.scores import Factor
from workers.scoring.amounts import parse_number, parse_yearly_sum
from workers.scoring.field_names import find_fields
from workers.scoring.mail_domains import classify_domain
from workers.scoring.rules import Rules, Threshold
from workers.scoring.seniority import find_seniority

MAX_VALUE_LENGTH = 100
"""The length to which a factor cuts a text."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a lead that the rules rate."""

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
    """`factors` add up to `score`, the largest first. From `stale_at` on the score may be lower."""

    score: int
    factors: list[Factor]
    stale_at: datetime | None


def score_lead(facts: Facts, rules: Rules, now: datetime) -> Score:
    """The score of a lead at a time. Equal arguments give equal factors in the same order.

    Raises no error, whatever the fields contain.
    """
    found = [factor for rate in _RULES if (factor := rate(facts, rules)) and factor.contribution]
    freshness, stale_at = _rate_freshness(facts, rules, now)
    found += [freshness] if freshness else []
    total = sum(factor.contribution for factor in found)
    score = min(max(total, 0), 100)
    if score != total:
        note = "the maximum is 100" if total > score else "the minimum is 0"
        found.append(Factor("limit", total, score - total, note))
    found.sort(key=lambda factor: -factor.contribution)
    return Score(score, found, stale_at)


def _rate_completeness(facts: Facts, rules: Rules) -> Factor:
    values = {name: getattr(facts, name) for name in ("name", "company", "title", "phone")}
    known = [name for name, value in values.items() if value and value.strip()]
    points = rules.known_field * len(known)
    return Factor("completeness", ", ".join(known), points, f"{len(known)} of {len(values)} known")


def _rate_domain(facts: Facts, rules: Rules) -> Factor:
    domain = facts.email_key.rpartition("@")[2]
    domain_class = classify_domain(domain)
    points = rules.domains.get(domain_class, 0)
    return Factor("email", _cut(domain), points, f"{domain_class} address")


def _rate_title(facts: Facts, rules: Rules) -> Factor | None:
    if not facts.title or not facts.title.strip():
        return None
    seniority = find_seniority(facts.title)
    return Factor("title", _cut(facts.title), rules.seniorities.get(seniority, 0), seniority)


def _rate_budget(facts: Facts, rules: Rules) -> Factor | None:
    for name, value, unit in find_fields(facts.custom_fields, rules.budget_fields):
        amount = parse_yearly_sum(value, unit)
        if amount is not None:
            points = _find_points(amount, rules.budget_thresholds)
            note = f"budget of about {amount:,.0f}"
            return Factor(f"customFields.{name}", _cut(value), points, note)
    return None


def _rate_team_size(facts: Facts, rules: Rules) -> Factor | None:
    for name, value, _ in find_fields(facts.custom_fields, rules.team_size_fields):
        size = parse_number(value)
        if size is not None:
            points = _find_points(size, rules.team_size_thresholds)
            note = f"team of {size:,.0f} or more"
            return Factor(f"customFields.{name}", _cut(value), points, note)
    return None


def _rate_tags(facts: Facts, rules: Rules) -> Factor:
    known = {re.sub(r"[\s_]+", "-", tag.strip().lower()): tag for tag in facts.tags}
    points = {tag: rules.tags[plain] for plain, tag in known.items() if rules.tags.get(plain)}
    total = sum(points.values())
    note = f"at most {rules.tags_cap} for tags" if total > rules.tags_cap else "tags with points"
    return Factor("tags", ", ".join(points), min(total, rules.tags_cap), note)


def _rate_source(facts: Facts, rules: Rules) -> Factor:
    return Factor("source", facts.source, rules.sources.get(facts.source, 0), "source of the lead")


def _rate_conversations(facts: Facts, rules: Rules) -> Factor:
    count = facts.conversation_count
    points = min(count * rules.conversation, rules.conversations_cap)
    return Factor("conversationCount", count, points, "conversations so far")


def _rate_intent(facts: Facts, rules: Rules) -> Factor | None:
    if not facts.last_intent:
        return None
    points = rules.intents.get(facts.last_intent, rules.other_intent)
    return Factor("lastIntent", _cut(facts.last_intent), points, "latest intent")


def _rate_status(facts: Facts, rules: Rules) -> Factor:
    return Factor("status", facts.status, rules.statuses.get(facts.status, 0), "status of the lead")


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
    """The factor for recent activity, and when it expires."""
    for freshness in rules.freshness:
        ends_at = facts.last_active_at + timedelta(days=freshness.days)
        if now < ends_at:
            value = f"within {freshness.days} days"
            return Factor("lastActiveAt", value, freshness.points, "recently active"), ends_at
    return None, None


def _find_points(amount: float, thresholds: tuple[Threshold, ...]) -> int:
    return next((each.points for each in thresholds if amount >= each.minimum), 0)


def _cut(value: Any) -> Any:
    return value[:MAX_VALUE_LENGTH] if isinstance(value, str) else value
