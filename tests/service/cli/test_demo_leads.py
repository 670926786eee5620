"""The leads of `leadlog demo`: like real ones, reproducible, with scores that spread."""

import re
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from service.cli.demo.directory import Name, Region
from service.cli.demo.people import TITLES, _make_contact, make_leads
from service.cli.demo.romanization import romanize
from workers.scoring.rules import BUILTIN_RULES
from workers.scoring.score import Facts, score_lead

LATIN_ADDRESS = re.compile(r"[a-z]+[._-][a-z]+\d*@[a-z-]+\.[a-z0-9]+\.example")


def test_the_leads_of_the_demo_look_like_leads() -> None:
    leads = list(make_leads(5000, seed=7))
    assert leads == list(make_leads(5000, seed=7))
    assert len({lead["email"] for lead in leads + list(make_leads(5000, seed=8))}) == 10_000
    assert [lead["email"] for lead in leads if not LATIN_ADDRESS.fullmatch(lead["email"])] == []
    for name in ("source", "status"):
        assert len({lead[name] for lead in leads}) > 3
    fields = [lead["customFields"] for lead in leads]
    for name in ("budget", "teamSize", "timeline", "industry"):
        assert len({field.get(name) for field in fields}) > 6
    assert {*TITLES[0], *TITLES[-1]} < {lead.get("title") for lead in leads}
    late, early = leads[4000:], leads[:1000]
    assert count_new(late) > 1.5 * count_new(early)


def count_new(leads: list[dict[str, Any]]) -> int:
    return sum(lead["status"] == "new" for lead in leads)


def test_the_addresses_of_the_demo_belong_to_name_and_company() -> None:
    for lead in make_leads(2000, seed=3):
        local, _, domain = lead["email"].partition("@")
        name, company = lead.get("name", ""), lead.get("company", "")
        if name.isascii() and name and '"' not in name:
            one, other = re.split(r"[._-]", local)
            assert re.sub(r"[^a-z]", "", name.lower()) in {one + other, other + one}, lead
        if company.isascii() and company:
            assert domain.split("-")[0].split(".")[0] in company.lower().replace("'", ""), lead


def test_addresses_of_the_demo_differ_when_all_people_have_been_used() -> None:
    two = [Name("Ann", "ann"), Name("Bo", "bo")]
    region = Region(two, two, [Name("Acme", "acme")], (), "+1 555 01##", None)
    contacts = [_make_contact(region, number, "d1", 5) for number in range(5, 5 + 24)]
    assert len({contact.email for contact in contacts}) == 24
    assert len({contact.email for contact in contacts[:8]}) == 8
    assert not any("1@" in contact.email for contact in contacts[:8])
    assert all("1@" in contact.email for contact in contacts[8:16])


def test_the_scores_of_the_demo_spread() -> None:
    now = datetime.now(UTC)
    scores = [
        score_lead(read_facts(lead, now), BUILTIN_RULES, now).score
        for lead in make_leads(3000, seed=7)
    ]
    tens = Counter(score // 10 for score in scores)
    assert sorted(tens)[:8] == list(range(8))  # without conversations, 82 is the most
    assert max(tens.values()) < 800
    assert scores.count(0) < 300


def read_facts(lead: dict[str, Any], now: datetime) -> Facts:
    same = {name: lead[name] for name in ("name", "company", "title", "phone") if name in lead}
    return Facts(
        email_key=lead["email"], status=lead["status"], source=lead["source"], tags=lead["tags"],
        custom_fields=lead["customFields"], last_active_at=now, **same,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "latin"),
    [("Çamurcuoğlu", "camurcuoglu"), ("Осипов", "osipov"), ("Νέαρχος", "nearchos"),
     ("민서", "minseo"), ("प्रमोद", "pramoda"), ("Sørensen", "sorensen"), ("佐", ""), ("", "")],
)  # fmt: skip
def test_names_are_written_in_latin_letters(name: str, latin: str) -> None:
    assert romanize(name) == latin


def test_notes_of_the_demo_differ_and_repeat_no_sentence() -> None:
    leads = list(make_leads(3000, seed=7))
    notes = [note for lead in leads if (note := lead["customFields"].get("notes"))]
    assert len(notes) > 1500
    assert len(set(notes)) == len(notes)
    for note in notes:
        sentences = re.findall(r"[^.]+\.", note)
        assert len(set(sentences)) == len(sentences) > 1
    assert any(len(one) != len(other) for one, other in pairwise(notes))
    assert max(map(len, notes)) > 1500
