from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.leads.models import Source, Status
from service.leads.scores import Factor, decode_factors, encode_factors, find_band
from workers.scoring.rules import BUILTIN_RULES, Rules
from workers.scoring.score import Facts, score_lead

NOW = datetime(2026, 4, 5, 15, 22, tzinfo=UTC)
JAMES = Facts(
    email_key="james.rodriguez@techstart.io",
    name="James Rodriguez",
    company="TechStart",
    title="CTO",
    phone="+1-555-0198",
    status="qualified",
    source="api",
    tags=["inbound", "startup", "hot-lead"],
    custom_fields={"industry": "FinTech", "teamSize": "10-25", "budget": "$5k-$10k/mo"},
    last_active_at=NOW,
)
SARAH = Facts(
    email_key="sarah.chen@acmecorp.com",
    name="Sarah Chen",
    company="Acme Corp",
    title="VP of Sales",
    phone="+1-555-0142",
    status="qualified",
    source="chat",
    tags=["enterprise", "demo-requested"],
    custom_fields={"industry": "SaaS", "teamSize": "50-100"},
    conversation_count=3,
    last_intent="demo_request",
    last_active_at=NOW,
)
NOBODY = Facts(email_key="x@gmail.com", source="import", last_active_at=NOW - timedelta(days=365))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
texts = st.none() | st.text(max_size=200) | st.sampled_from(["CEO", "Intern", "$5k/mo", " "])
field_names = st.sampled_from(["budget", "Team Size", "team_size", "annual-budget"]) | st.text()
points = st.integers(-200, 200)
moments = st.datetimes(
    datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)  # noqa: DTZ001  # see timezones
)  # fmt: skip
leads = st.builds(
    Facts,
    email_key=st.emails() | st.text(max_size=254),
    name=texts,
    company=texts,
    title=texts,
    phone=texts,
    status=st.sampled_from(msgspec.inspect.type_info(Status).values),  # type: ignore[attr-defined]  # a Literal's
    source=st.sampled_from(msgspec.inspect.type_info(Source).values),  # type: ignore[attr-defined]  # a Literal's
    tags=st.lists(st.sampled_from([*BUILTIN_RULES.tags, "other"]) | st.text(max_size=64)),
    custom_fields=st.dictionaries(field_names, json_values, max_size=6),
    conversation_count=st.integers(0, 10**9),
    last_intent=texts,
    last_active_at=moments,
)
rule_books = st.just(BUILTIN_RULES) | st.builds(
    Rules,
    known_field=points,
    domains=st.dictionaries(st.sampled_from(["company", "free", "disposable"]), points),
    seniorities=st.dictionaries(st.sampled_from(["executive", "staff"]), points),
    tags=st.dictionaries(st.sampled_from(["hot-lead", "spam", "other"]), points),
    tags_cap=points,
    sources=st.dictionaries(st.sampled_from(["chat", "api"]), points),
    conversation=points,
    conversations_cap=points,
    statuses=st.dictionaries(st.sampled_from(["new", "lost"]), points),
)


@given(leads, rule_books, moments)
@settings(max_examples=150, deadline=None)
def test_for_any_lead_and_rules_the_factors_add_up_to_a_score_from_0_to_100(
    facts: Facts, rules: Rules, now: datetime
) -> None:
    score = score_lead(facts, rules, now)

    assert 0 <= score.score <= 100
    assert sum(factor.contribution for factor in score.factors) == score.score
    assert all(type(factor.contribution) is int for factor in score.factors)
    assert decode_factors(encode_factors(score.factors)) == score.factors


def test_factors_that_an_earlier_version_stored_are_readable() -> None:
    stored = bytes.fromhex(
        "8b460aa510aca1843382c1891a3d624de1f10acf0585a58939996999a05c60843d17c40200"
    )
    factors = [
        Factor("title", "CTO", 16, "executive"),
        Factor("customFields.budget", "$5k", 4, "budget of about 5,000"),
        Factor("status", "qualified", 2, "status of the lead"),
    ]
    assert decode_factors(stored) == factors
    assert decode_factors(b"") == []


@given(leads, moments)
@settings(max_examples=40, deadline=None)
def test_the_same_lead_at_the_same_time_gives_the_same_bytes(facts: Facts, now: datetime) -> None:
    copy = msgspec.structs.replace(facts, custom_fields=dict(facts.custom_fields))
    first, second = (score_lead(each, BUILTIN_RULES, now) for each in (facts, copy))

    assert msgspec.json.encode(first) == msgspec.json.encode(second)


@given(leads, moments)
@settings(max_examples=60, deadline=None)
def test_a_score_does_not_change_before_its_stale_time(facts: Facts, now: datetime) -> None:
    score = score_lead(facts, BUILTIN_RULES, now)
    if score.stale_at is None:
        assert score_lead(facts, BUILTIN_RULES, now + timedelta(days=9999)) == score
    else:
        assert score.stale_at > now
        just_before = score_lead(facts, BUILTIN_RULES, score.stale_at - timedelta(milliseconds=1))
        assert just_before == score
        assert score_lead(facts, BUILTIN_RULES, score.stale_at) != score


def test_the_leads_of_the_reference_have_the_expected_scores_and_bands() -> None:
    james, sarah, nobody = (
        score_lead(facts, BUILTIN_RULES, NOW).score for facts in (JAMES, SARAH, NOBODY)
    )

    assert (sarah, james, nobody) == (80, 66, 0)
    assert [find_band(score) for score in (sarah, james, nobody)] == ["hot", "warm", "cold"]


def test_the_factors_of_a_score_are_sorted_by_contribution() -> None:
    assert score_lead(JAMES, BUILTIN_RULES, NOW).factors == [
        Factor("title", "CTO", 16, "executive"),
        Factor("customFields.budget", "$5k-$10k/mo", 11, "budget of about 60,000"),
        Factor("tags", "inbound, hot-lead", 9, "tags with points"),
        Factor("completeness", "name, company, title, phone", 8, "4 of 4 known"),
        Factor("email", "techstart.io", 6, "company address"),
        Factor("lastActiveAt", "within 7 days", 6, "recently active"),
        Factor("status", "qualified", 4, "status of the lead"),
        Factor("source", "api", 3, "source of the lead"),
        Factor("customFields.teamSize", "10-25", 3, "team of 10 or more"),
    ]


def test_the_caps_of_the_builtin_rules_add_up_to_100() -> None:
    best = msgspec.structs.replace(
        SARAH,
        title="CEO",
        tags=["hot-lead", "enterprise", "referral", "pricing"],
        custom_fields={"budget": 1_000_000, "teamSize": 5_000},
        conversation_count=50,
    )
    score = score_lead(best, BUILTIN_RULES, NOW)

    assert score.score == 100
    assert "limit" not in {factor.feature for factor in score.factors}


@pytest.mark.parametrize(
    ("field_", "worse", "better"),
    [
        ("email_key", "x@mailinator.com", "x@gmail.com"),
        ("email_key", "x@gmail.com", "x@acme.com"),
        ("name", "  ", "Ann"),
        ("title", "Praktikantin", "Vertriebsleiterin"),
        ("source", "import", "chat"),
        ("status", "lost", "contacted"),
        ("tags", ["spam"], []),
        ("tags", [], ["Demo Requested"]),
        ("conversation_count", 0, 1),
        ("last_intent", None, "pricing"),
        ("custom_fields", {"budget": "$900"}, {"budget": "€ 20.000"}),
        ("custom_fields", {"team_size": 3}, {"Team Size": "500+"}),
        ("last_active_at", NOW - timedelta(days=30), NOW - timedelta(days=6)),
    ],
)
def test_a_better_lead_has_a_higher_score(field_: str, worse: Any, better: Any) -> None:
    scores = [
        score_lead(msgspec.structs.replace(JAMES, **{field_: value}), BUILTIN_RULES, NOW).score
        for value in (worse, better)
    ]
    assert scores[0] < scores[1]


@pytest.mark.parametrize(
    ("fields", "feature", "note"),
    [
        ({"Budget (USD)": 80000}, "Budget (USD)", "budget of about 80,000"),
        ({"budget_eur": "80k"}, "budget_eur", "budget of about 80,000"),
        ({"budget_jpy": 1_500_000}, "budget_jpy", "budget of about 10,000"),
        ({"budgetCAD": "$14k"}, "budgetCAD", "budget of about 10,000"),
        ({"monthlyBudget": 5000}, "monthlyBudget", "budget of about 60,000"),
        ({"monthlyBudget": "5k/mo"}, "monthlyBudget", "budget of about 60,000"),
        ({"monthly_budget": "60k per year"}, "monthly_budget", "budget of about 60,000"),
        ({"Ｂｕｄｇｅｔ": "80k"}, "Ｂｕｄｇｅｔ", "budget of about 80,000"),
        ({"employeeCount": 50}, "employeeCount", "team of 50 or more"),
        ({"budget": "", "annualBudget": "80k"}, "annualBudget", "budget of about 80,000"),
        ({"budget": None, "Budget": "80k"}, "Budget", "budget of about 80,000"),
        ({"budget": "tbd", "budgetRange": "50k-80k"}, "budgetRange", "budget of about 50,000"),
    ],
)
def test_the_first_field_with_an_amount_counts(
    fields: dict[str, Any], feature: str, note: str
) -> None:
    facts = msgspec.structs.replace(NOBODY, custom_fields=fields)
    factors = score_lead(facts, BUILTIN_RULES, NOW).factors
    assert (f"customFields.{feature}", note) in [(each.feature, each.note) for each in factors]


def test_a_limit_factor_keeps_the_score_within_0_to_100() -> None:
    spam = msgspec.structs.replace(NOBODY, tags=["spam"])
    generous = Rules(known_field=50)

    assert score_lead(spam, BUILTIN_RULES, NOW).factors == [
        Factor("limit", -50, 50, "the minimum is 0"),
        Factor("tags", "spam", -50, "tags with points"),
    ]
    assert score_lead(JAMES, generous, NOW).factors[-1] == Factor(
        "limit", 258, -158, "the maximum is 100"
    )


@pytest.mark.parametrize(
    "facts",
    [
        msgspec.structs.replace(JAMES, title="leit" * 50),
        msgspec.structs.replace(JAMES, title=("vice " * 40)),
        msgspec.structs.replace(JAMES, custom_fields={"budget": "1," * 8000}),
        msgspec.structs.replace(JAMES, custom_fields={"budget": "9" * 16000}),
        msgspec.structs.replace(JAMES, custom_fields={"budget": 10**4000, "teamSize": 1e308}),
        msgspec.structs.replace(JAMES, email_key="x@" + "a." * 120 + "com"),
    ],
)
def test_hostile_values_are_scored_quickly(facts: Facts) -> None:
    started = datetime.now(UTC)
    score_lead(facts, BUILTIN_RULES, NOW)
    assert datetime.now(UTC) - started < timedelta(milliseconds=50)
