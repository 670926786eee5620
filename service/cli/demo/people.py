"""Fictional people in many scripts, as bodies of leads; the same seed gives the same people."""

import random
from collections.abc import Iterator
from typing import Any

from faker import Faker

LOCALES = (
    "en_US", "de_DE", "fr_FR", "es_ES", "pl_PL", "pt_BR", "tr_TR", "el_GR", "ru_RU", "ja_JP",
    "zh_CN", "ko_KR", "ar_SA", "he_IL", "hi_IN", "th_TH", "vi_VN",
)  # fmt: skip
POOL_SIZE = 250
"""The number of names and of companies per locale; leads combine them."""

TITLES = (
    "CEO", "CTO", "VP of Sales", "Head of Marketing", "Director of Operations", "Founder",
    "Account Manager", "Software Engineer", "Leiterin Vertrieb", "Geschäftsführer", "営業部長",
    "Directeur général", "Директор по продажам", "مدير المبيعات", "Intern", "Buyer 🛒",
)  # fmt: skip
TAGS = ("enterprise", "startup", "inbound", "demo-requested", "newsletter", "partner", "trial",
        "価格", "événement")  # fmt: skip
INDUSTRIES = ("SaaS", "FinTech", "Logistics", "Health", "Maschinenbau", "Retail", "教育")
TEAM_SIZES = ("1-9", "10-25", "25-50", "50-100", "100-500", "500+")
BUDGETS = ("$1k-$5k/mo", "$5k-$10k/mo", "$10k+/mo", "€ 20.000", "unknown", 12_000, 2_500.5)
FREE_MAIL = ("gmail.com", "outlook.com", "web.de", "yahoo.co.jp", "qq.com")
IDN_DOMAINS = ("müller-söhne.de", "straße.example.com", "пример.рф", "例え.jp", "español.es",
               "bücher.ch")  # fmt: skip
OPENINGS = (
    "Asked about", "Wants to see", "Has doubts about", "Compared us with a competitor on",
    "Needs a decision on", "Was pleased with", "Sent questions about", "Will not sign without",
)  # fmt: skip
TOPICS = (
    "single sign-on", "audit logs", "data residency", "the price per seat", "a pilot in spring",
    "import of old contacts", "the API's limits", "support at night", "Datenschutz", "請求書払い",
    "les délais de mise en service", "exports to a warehouse", "roles and rights", "uptime",
)  # fmt: skip
ENDINGS = (
    "before the board meets.",
    "for a team abroad.",
    "again on the phone.",
    "by e-mail.",
    "for the next quarter.",
    "with their lawyer in copy.",
    "after the demo.",
    "in some detail.",
)
MAX_NOTE_SENTENCES = 60


def make_leads(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yields `count` leads; their e-mail addresses differ within a seed and between seeds."""
    rng = random.Random(seed)  # noqa: S311  # fictional people, not secrets
    people, companies = _draw_pools(seed)
    for number in range(count):
        company = rng.choice(companies)
        yield _make_lead(rng, rng.choice(people), company, f"{seed:x}.{number}")


def _draw_pools(seed: int) -> tuple[list[str], list[str]]:
    people: list[str] = []
    companies: list[str] = []
    for locale in LOCALES:
        fake = Faker(locale)
        fake.seed_instance(seed)
        people += [fake.name() for _ in range(POOL_SIZE)]
        companies += [fake.company() for _ in range(POOL_SIZE)]
    return people, companies


def _make_lead(rng: random.Random, name: str, company: str, mark: str) -> dict[str, Any]:
    lead: dict[str, Any] = {"email": _make_email(rng, name, mark)}
    if rng.random() < 0.9:  # noqa: PLR2004  # shares of a plausible inbox, here and below
        lead["name"] = _decorate(rng, name)
    if rng.random() < 0.8:  # noqa: PLR2004
        lead["company"] = company
        lead["title"] = rng.choice(TITLES)
    if rng.random() < 0.5:  # noqa: PLR2004
        area, line = rng.randint(200, 999), rng.randint(0, 9999)
        lead["phone"] = f"+{rng.randint(1, 99)} ({area}) {rng.randint(100, 999)}-{line:04}"
    lead["source"] = rng.choices(("chat", "api", "form", "import"), (5, 2, 2, 1))[0]
    lead["tags"] = rng.sample(TAGS, rng.randint(0, 3))
    lead["customFields"] = _make_custom_fields(rng)
    return lead


def _make_email(rng: random.Random, name: str, mark: str) -> str:
    local = "".join(c for c in name.lower() if c.isascii() and c.isalpha())[:20] or "lead"
    domains: tuple[str, ...] = FREE_MAIL if rng.random() < 0.4 else IDN_DOMAINS  # noqa: PLR2004
    if rng.random() < 0.5:  # noqa: PLR2004
        domains = (f"{rng.choice(INDUSTRIES[:4]).lower()}-{rng.randint(1, 5000)}.com",)
    return f"{local}.{mark}@{rng.choice(domains)}"


def _decorate(rng: random.Random, name: str) -> str:
    """Makes some names as odd as in real forms: with quotes or emoji, or very long."""
    dice = rng.random()
    if dice < 0.02:  # noqa: PLR2004
        return f'{name} "the closer" O\'Neil'
    if dice < 0.04:  # noqa: PLR2004
        return f"{name} 🚀👩‍💻"
    return (name * 20)[:200] if dice < 0.045 else name  # noqa: PLR2004


def _make_custom_fields(rng: random.Random) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "industry": rng.choice(INDUSTRIES),
        "teamSize": rng.choice(TEAM_SIZES),
    }
    if rng.random() < 0.6:  # noqa: PLR2004
        fields["budget"] = rng.choice(BUDGETS)
    if rng.random() < 0.02:  # noqa: PLR2004
        fields["note"] = _make_note(rng)
    if rng.random() < 0.05:  # noqa: PLR2004
        fields["utm"] = {"source": "newsletter", "clicks": rng.randint(1, 9), "paths": ["/", "/'"]}
    return fields


def _make_note(rng: random.Random) -> str:
    """A long note of a salesperson, without repeated sentences."""
    everything = [
        f"{opening} {topic} {ending}"
        for opening in OPENINGS
        for topic in TOPICS
        for ending in ENDINGS
    ]
    return " ".join(rng.sample(everything, rng.randint(3, MAX_NOTE_SENTENCES)))
