"""Fictional leads, as bodies of POST /v1/leads; the same seed gives the same leads.

A lead's fit, from 0 to 1, decides about title, company size, budget, tags and source, so that the
scores of many leads spread. Addresses are in the reserved domain .example.
"""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from service.cli.demo.directory import Name, Region, make_regions
from service.cli.demo.notes import make_note

TITLES = (
    ("Intern", "Student", "Working student", "Trainee"),
    ("Software Engineer", "Office Assistant", "Buyer", "Analyst", "Sales Representative"),
    ("Account Manager", "Marketing Manager", "Team Lead", "Purchasing Manager"),
    ("Head of Marketing", "Director of Operations", "IT Director", "Head of Customer Success"),
    ("VP of Sales", "VP Engineering", "Vice President, IT", "SVP Operations"),
    ("CEO", "CTO", "Founder", "Managing Director", "Owner"),
)
"""Titles by seniority, lowest first."""
TEAM_SIZES = ("1-9", "10-25", "25-50", "50-100", "100-500", "500-1000", "1000+")
BUDGETS: tuple[tuple[str | int, ...], ...] = (
    ("unknown", "none yet"), ("$50/mo", "under $1k a year", 400), ("$2k-$5k", "€ 3.000", 4_500),
    ("$10k-$25k", "£12,000", 18_000), ("$5k-$10k/mo", "€ 60.000", 75_000),
    ("$10k+/mo", "$250k", 180_000),
)  # fmt: skip
"""Budgets from lowest to highest."""
TIMELINES = (
    "no date yet",
    "next year",
    "in 6 months",
    "next quarter",
    "this quarter",
    "this month",
)
INDUSTRIES = (
    "SaaS", "FinTech", "Logistics", "Health care", "Machinery", "Retail", "Education", "Energy",
    "Insurance", "Agriculture", "Hospitality", "Media",
)  # fmt: skip
COLD_TAGS = (
    "newsletter",
    "unsubscribed",
    "job-seeker",
    "competitor",
    "webinar",
    "event",
    "student",
)
WARM_TAGS = ("inbound", "webinar", "trial", "partner", "startup", "newsletter")
HOT_TAGS = ("demo-requested", "enterprise", "referral", "pricing", "hot-lead", "trial")
SOURCES = (("import", "api"), ("api", "form", "import"), ("form", "chat", "api"), ("chat", "form"))
FORMATS = ("{0}.{1}", "{0}_{1}", "{1}.{0}", "{0}-{1}")
"""How a company forms addresses: no two people of a company get the same."""
NICKNAMES, EMOJI = 0.01, 0.005
"""The shares of names with a nickname, and with an emoji."""
PRIVATE = Name("", "mail")
"""Stands for the company of people who write from a private address."""
BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class Contact(NamedTuple):
    """A person at a company, and the address there."""

    region: Region
    name: str
    first: Name
    company: Name
    email: str


def make_leads(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yields `count` leads; their e-mail addresses differ within a seed and between seeds."""
    rng = random.Random(seed)  # noqa: S311  # fictional people, not secrets
    for number, contact in zip(range(count), _list_contacts(rng, seed), strict=False):
        yield _make_lead(rng, contact, number / count)


def _list_contacts(rng: random.Random, seed: int) -> Iterator[Contact]:
    """All people of all companies in a mixed order, then again with numbers in their addresses."""
    regions = make_regions(seed)
    starts = [rng.randrange(10**6) for _ in regions]
    zone = _encode(seed)
    number = 0
    while True:
        for region, start in zip(regions, starts, strict=True):
            yield _make_contact(region, start + number, zone, start)
        number += 1


def _make_contact(region: Region, number: int, zone: str, start: int) -> Contact:
    """The contact with this number; each number of a region below its total is another one."""
    employers = [*region.companies, PRIVATE]
    total = len(region.firsts) * len(region.lasts) * len(employers)
    place = number * _find_step(total) % total
    place, which = divmod(place, len(region.firsts))
    first = region.firsts[which]
    which, employer = place % len(region.lasts), place // len(region.lasts)
    last, company = region.lasts[which], employers[employer]
    local = FORMATS[len(company.latin) % len(FORMATS)].format(first.latin, last.latin)
    again = (number - start) // total
    email = f"{local}{again or ''}@{company.latin}.{zone}.example"
    return Contact(region, region.join(first, last), first, company, email)


def _find_step(total: int) -> int:
    """A step that visits all numbers below `total`, far apart."""
    step = int(total * 0.618) | 1
    while math.gcd(step, total) != 1:
        step += 2
    return step


def _encode(number: int) -> str:
    """The number in letters and digits, as a label of a domain."""
    digits = ""
    number = abs(number) * 2 + (number < 0)
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = BASE36[digit] + digits
    return f"d{digits}"


def _make_lead(rng: random.Random, contact: Contact, age: float) -> dict[str, Any]:
    """A lead; the later it comes in the demo (`age` up to 1), the less has happened with it."""
    fit = rng.random()
    lead: dict[str, Any] = {"email": contact.email}
    if rng.random() < 0.3 + fit:
        lead["name"] = _decorate(rng, contact)
    if contact.company is not PRIVATE:
        lead["company"] = contact.company.text
        if rng.random() < 0.3 + fit:
            lead["title"] = _choose_title(rng, contact.region, fit)
    if rng.random() < 0.1 + 0.8 * fit:
        lead["phone"] = _dial(rng, contact.region.phone)
    lead["status"] = _choose_status(rng, fit, age)
    lead["source"] = rng.choice(_pick(rng, SOURCES, fit))
    lead["tags"] = _choose_tags(rng, fit)
    lead["customFields"] = _make_custom_fields(rng, contact, fit)
    return lead


def _happens(rng: random.Random, share: float) -> bool:
    """Draw whether something happens that happens in this share of the cases."""
    return rng.random() < share


def _choose_title(rng: random.Random, region: Region, fit: float) -> str:
    """A title in English or in the language of the region."""
    if region.titles and _happens(rng, 0.6):
        return str(_pick(rng, region.titles, fit))
    return str(rng.choice(_pick(rng, TITLES, fit)))


def _pick(rng: random.Random, steps: Sequence[Any], fit: float) -> Any:
    """The step that belongs to the fit, or a neighbour."""
    place = fit * len(steps) + rng.uniform(-0.8, 0.8)
    return steps[min(max(int(place), 0), len(steps) - 1)]


def _dial(rng: random.Random, pattern: str) -> str:
    digits = rng.randrange(10**12)
    written = []
    for letter in pattern:
        if letter == "#":
            digits, digit = divmod(digits, 10)
            written.append(BASE36[digit])
        else:
            written.append(letter)
    return "".join(written)


def _choose_status(rng: random.Random, fit: float, age: float) -> str:
    if rng.random() < 0.35 + 0.5 * age:
        return "new"
    weights = (5, 4 * fit, 1.5 * fit, 2 * (1 - fit))
    return rng.choices(("contacted", "qualified", "converted", "lost"), weights)[0]


def _choose_tags(rng: random.Random, fit: float) -> list[str]:
    tags: tuple[str, ...] = _pick(rng, (COLD_TAGS, WARM_TAGS, HOT_TAGS), fit)
    return rng.sample(tags, rng.randint(0, 2 + round(fit)))


def _decorate(rng: random.Random, contact: Contact) -> str:
    """The name, and in a few cases what people add to it in forms."""
    dice = rng.random()
    if dice < NICKNAMES:
        return f'{contact.name} "{contact.first.text[:3]}"'
    return f"{contact.name} 🚀" if dice < NICKNAMES + EMOJI else contact.name


def _make_custom_fields(rng: random.Random, contact: Contact, fit: float) -> dict[str, Any]:
    fields: dict[str, Any] = {"industry": rng.choice(INDUSTRIES)}
    if _happens(rng, 0.2 + 0.75 * fit):
        fields["teamSize"] = _pick(rng, TEAM_SIZES, fit)
    if _happens(rng, 0.1 + 0.85 * fit):
        fields["budget"] = rng.choice(_pick(rng, BUDGETS, fit))
        fields["timeline"] = _pick(rng, TIMELINES, fit)
    if _happens(rng, 0.6):
        fields["notes"] = make_note(rng, contact.first.text)
    if _happens(rng, 0.05):
        fields["utm"] = {"source": "newsletter", "clicks": rng.randint(1, 9), "paths": ["/", "/'"]}
    return fields
