"""GET /v1/leads/search: the hits and their order; every query is safe."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from service.database.connect import Pool
from tests.harness.api_client import Api
from tests.harness.factories import Tenant, make_lead, make_tenant


@pytest.fixture(scope="module", autouse=True)
async def leads(pool: Pool, tenant: Tenant, other: Tenant) -> None:
    rows: list[dict[str, Any]] = [
        {"email": "sarah@acmecorp.com", "name": "Sarah Chen", "company": "Big Rocket", "score": 50},
        {"email": "a@x.com", "name": "Wile Coyote", "company": "Acme", "score": 10},
        {"email": "b@x.com", "name": "Road Runner", "company": "Acmeville Ltd", "score": 90},
        {"email": "c@x.com", "name": "Pre-Acme Inc.", "company": None, "score": 5},
        {"email": "d@x.com", "name": "Megacmeria", "company": None, "score": 99},
        {"email": "jose@müller.de", "name": "José Müller-Łukasz", "status": "qualified"},
        {"email": "e@x.com", "name": "王小明", "company": "株式会社テスト"},
        {"email": "f@x.com", "custom_fields": {"industry": "FinTech", "size": 4711, "n": None}},
        {"email": "i+tag.two@sub.y-z.org", "custom_fields": {"phone": "+1 (555) 867-5309"}},
        {"email": "j@x.com", "name": "Дмитрий Ёлкин", "company": "O'Reilly & Söhne GmbH"},
        {"email": "g@x.com", "name": "100% _under_score \\ back'slash"},
        {"email": "h@x.com", "name": "Johnson", "company": "Hammersmith"},
    ]
    for row in rows:
        await make_lead(pool, tenant.id, **row)
    await make_lead(pool, other.id, email="spy@acme.com", name="Acme")
    await make_lead(pool, tenant.id, live=False, email="t@acme.com", name="Acme")


async def search(api: Api, q: str, more: str = "") -> tuple[list[Any], Any]:
    response = await api.get(f"/v1/leads/search?q={quote(q, safe='')}{more}")
    assert response.status == 200, response.body
    return response.json["data"], response.json["pagination"]


async def found(api: Api, q: str) -> list[tuple[str, str]]:
    return [(hit["email"], hit["matchField"]) for hit in (await search(api, q))[0]]


async def test_whole_words_come_before_prefixes_before_substrings(api: Api) -> None:
    hits, pagination = await search(api, "acme")
    assert [(hit["email"], hit["matchField"]) for hit in hits] == [
        ("a@x.com", "company"),
        ("c@x.com", "name"),
        ("b@x.com", "company"),
        ("sarah@acmecorp.com", "email"),
        ("d@x.com", "name"),
    ]
    assert pagination == {"page": 1, "limit": 25, "total": 5, "totalPages": 1, "hasMore": False}
    assert list(hits[0]) == [
        "id", "email", "name", "company", "status", "score", "matchField", "lastActiveAt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("MULLER", [("jose@müller.de", "name")]),
        ("müller", [("jose@müller.de", "name")]),
        ("jose müll", [("jose@müller.de", "name")]),
        ("王小", [("e@x.com", "name")]),
        ("小明", [("e@x.com", "name")]),
        ("株式", [("e@x.com", "company")]),
        ("小花", []),
        ("スト", [("e@x.com", "company")]),
        ("トス", []),
        ("fintech", [("f@x.com", "customFields.industry")]),
        ("4711", [("f@x.com", "customFields.size")]),
        ("sa", [("sarah@acmecorp.com", "name")]),
        ("sarah rocket", [("sarah@acmecorp.com", "name")]),
        ("sarah coyote", []),
        ("ohnso", [("h@x.com", "name")]),
        ("jonson", [("h@x.com", "name")]),
        ("hamersmith", [("h@x.com", "company")]),
        ("jhonson hammersmiht", [("h@x.com", "name")]),
        ("coyotee", [("a@x.com", "name")]),
        ("471", [("f@x.com", "customFields.size")]),
        ("711", []),
        ("c@x.com", [("c@x.com", "email")]),
        ("CHEN, sarah!", [("sarah@acmecorp.com", "name")]),
        ("under_score", [("g@x.com", "name")]),
        ("zzzzzz", []),
        ("+1 (555) 867", [("i+tag.two@sub.y-z.org", "customFields.phone")]),
        ("5309 555", [("i+tag.two@sub.y-z.org", "customFields.phone")]),
        ("i+tag.two@sub.y-z.org", [("i+tag.two@sub.y-z.org", "email")]),
        ("sub.y-z", [("i+tag.two@sub.y-z.org", "email")]),
        ("дмитрий ЕЛКИН", [("j@x.com", "name")]),
        ("дмитрии", [("j@x.com", "name")]),
        ("o'reilly", [("j@x.com", "company")]),
        ("SOHNE", [("j@x.com", "company")]),
        ("reillly", [("j@x.com", "company")]),
        ("%eilly", [("j@x.com", "company")]),
        ("'; DROP TABLE lead; --", []),
        ("' | '", []),
    ],
)
async def test_the_hits_and_their_matched_fields(api: Api, q: str, expected: list[Any]) -> None:
    assert await found(api, q) == expected


MATCH_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "John", "email": "john.doe@look1.example"}, "john.doe@look1.example", "email"),
    ({"name": "Ann", "company": "Ann Taylor"}, "ann taylor", "company"),
    ({"name": "Ann", "company": "Ann Taylor"}, "an tay", "company"),
    ({"name": "Ann", "company": "Ann Taylor"}, "ann tayler", "company"),
    ({"name": "Quux x", "company": "Quux Barq x"}, "quux barq", "company"),
    ({"name": "Vex Corpse", "company": "Vex Corp"}, "vex corp", "company"),
    ({"name": "Barq", "custom_fields": {"k": "Quux Barq Zo"}}, "quux barq zo", "customFields.k"),
    (
        {"email": "a@own.example", "custom_fields": {"alt": "b@foo-bar.example"}},
        "foo-bar.example",
        "customFields.alt",
    ),
    ({"name": "Марина", "company": "Марина Рощина"}, "марина рощина", "company"),
    ({"name": "محمد", "company": "شركة محمد خليفة"}, "محمد خليفة", "company"),
    ({"name": "민수", "company": "김 민수 카페"}, "민수 카페", "company"),
    ({"name": "Ann Taylor", "company": "Ann Taylor"}, "ann taylor", "name"),
    ({"name": "Annabel", "company": "Taylor"}, "ann taylor", "company"),
    ({"name": "Barqo", "company": "Zonkers"}, "zonkerss barqi", "name"),
]


@pytest.mark.parametrize(
    ("lead", "q", "field"),
    [
        ({"email": "john1985@x.io"}, "1985", "email"),
        ({"email": "anna77124@x.io"}, "77124", "email"),
        ({"email": "anna77124@x.io", "phone": "+1 771 2400"}, "77124", "phone"),
        ({"company": "INV202600432"}, "202600432", "company"),
        ({"custom_fields": {"vat": "DE123456789"}}, "123456789", "customFields.vat"),
        ({"name": "Firma1847"}, "1847", "name"),
        ({"name": "Firma1847 Zonk"}, "1847 onk", "name"),
        ({"name": "18475 Zonk"}, "1847 onk", "name"),
        ({"name": "18475 INV2024"}, "1847 2024", "name"),
        ({"name": "Firma184"}, "184", None),
        ({"name": "991847"}, "1847", None),
        ({"name": "991847 Zonk"}, "1847 onk", None),
    ],
)
async def test_digits_inside_a_word_are_found_and_inside_a_number_not(
    api: Api, pool: Pool, lead: dict[str, Any], q: str, field: str | None
) -> None:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    await make_lead(pool, tenant.id, **lead)
    hits, _ = await search(api.of(tenant), q)
    assert [hit["matchField"] for hit in hits] == ([field] if field else [])


@pytest.mark.parametrize(("lead", "q", "field"), MATCH_FIELDS)
async def test_the_matched_field_holds_all_words_if_any_field_does(
    api: Api, pool: Pool, lead: dict[str, Any], q: str, field: str
) -> None:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    await make_lead(pool, tenant.id, **lead)
    hits, _ = await search(api.of(tenant), q)
    assert [hit["matchField"] for hit in hits] == [field]


@pytest.mark.parametrize(
    "q",
    ["&&", "%%", "''", "\\\\", "__", "a'", "%a", "&|!()", ":*", "<->", '""', "\U0001f680" * 3,
     "\u202e\u202d", "a" * 200, "' OR 1=1 --", "{}[]", "\x01\x02", "n\u0303o", "x" * 100 + " %"],
)  # fmt: skip
async def test_any_query_is_safe(api: Api, q: str) -> None:
    response = await api.get(f"/v1/leads/search?q={quote(q, safe='')}")
    assert response.status == 200, response.body


@pytest.mark.parametrize("q", ["", "a", "  ", " a ", "a" * 201, "a" * 10_000, "a\0b"])
async def test_a_query_of_the_wrong_length_or_with_nul_is_400(api: Api, q: str) -> None:
    response = await api.get(f"/v1/leads/search?q={quote(q, safe='')}")
    assert response.status == 400
    assert response.error["details"][0]["field"] == "q"


async def test_a_search_without_q_is_400(api: Api) -> None:
    response = await api.get("/v1/leads/search")
    assert response.error["details"][0] == {
        "field": "q", "code": "required", "message": "q is required.",
    }  # fmt: skip


async def test_status_filters_hits(api: Api) -> None:
    assert (await search(api, "müller", "&status=qualified"))[1]["total"] == 1
    assert (await search(api, "müller", "&status=new"))[1]["total"] == 0


async def test_pages_and_cursors_reach_every_hit_once(api: Api) -> None:
    whole = [hit["id"] for hit in (await search(api, "acme"))[0]]
    paged = [(await search(api, "acme", f"&limit=2&page={page}"))[0] for page in (1, 2, 3, 4)]
    assert [hit["id"] for hits in paged for hit in hits] == whole
    by_cursor, cursor = [], ""
    while True:
        hits, pagination = await search(api, "acme", f"&limit=2{cursor}")
        by_cursor += [hit["id"] for hit in hits]
        assert pagination["total"] == 5
        if not pagination["hasMore"]:
            break
        cursor = f"&cursor={pagination['nextCursor']}"
    assert by_cursor == whole
    assert (await api.get(f"/v1/leads/search?q=other{cursor}")).status == 400


async def test_a_write_is_found_at_once_and_a_deleted_lead_no_longer(api: Api) -> None:
    lead = (await api.post("/v1/leads", {"email": "fresh@x.com", "name": "Quicksilver"})).json
    assert await found(api, "quicksilver") == [("fresh@x.com", "name")]
    await api.patch(
        f"/v1/leads/{lead['id']}", {"name": "Slowpoke", "customFields": {"k": "Mercury"}}
    )
    assert await found(api, "quicksilver") == []
    assert await found(api, "mercury") == [("fresh@x.com", "customFields.k")]
    await api.delete(f"/v1/leads/{lead['id']}")
    assert await found(api, "slowpoke") == []


async def test_a_search_finds_nothing_of_other_tenants_or_of_the_other_mode(
    api: Api, other: Tenant
) -> None:
    emails = {email for email, _ in await found(api, "acme")}
    assert not emails & {"spy@acme.com", "t@acme.com"}
    assert [email for email, _ in await found(api.of(other), "acme")] == ["spy@acme.com"]


async def test_typos_come_last_and_only_if_there_are_few_hits(
    api: Api, pool: Pool, tenant: Tenant
) -> None:
    for n in range(3):
        await make_lead(pool, tenant.id, email=f"k{n}@y.io", name="Katharina", score=90)
    exact = await make_lead(pool, tenant.id, email="k@y.io", name="Katharine", score=1)
    hits, pagination = await search(api, "katharine")
    assert (hits[0]["id"], pagination["total"]) == (exact, 4)
    for n in range(25):
        await make_lead(pool, tenant.id, email=f"e{n}@y.io", name="Katharine")
    assert (await search(api, "katharine"))[1]["total"] == 26


async def test_page_and_cursor_together_are_400(api: Api) -> None:
    _, pagination = await search(api, "acme", "&limit=2")
    response = await api.get(
        f"/v1/leads/search?q=acme&limit=2&page=2&cursor={pagination['nextCursor']}"
    )
    assert (response.status, response.error["details"][0]["field"]) == (400, "cursor")


async def test_a_cursor_of_another_tenant_or_mode_is_refused(api: Api, other: Tenant) -> None:
    _, pagination = await search(api, "acme", "&limit=2")
    path = f"/v1/leads/search?q=acme&limit=2&cursor={pagination['nextCursor']}"
    assert (await api.get(path)).status == 200
    assert (await api.of(other).get(path)).status == 400
    assert (await api.as_(live=False).get(path)).status == 400


@pytest.mark.parametrize(
    "q",
    [
        " ".join("abcdefghijklmnopqrstuvwxyz0123456789"),
        " ".join(f"{a}{b}" for a in "aeiou" for b in "bcdfghklmnpr")[:200],
        "an " * 66,
        "anna" * 50,
        "é" * 200,
        "ﷺ" * 50,
        "1 2 3 4 5 6 7 8 9 10 11 12",
    ],
)
async def test_no_query_is_expensive(api: Api, q: str) -> None:
    async with asyncio.timeout(2):
        await search(api, q)


async def test_a_prefix_beside_letters_that_many_words_contain(
    api: Api, pool: Pool, tenant: Tenant
) -> None:
    rare = [f"{a}{b}zoi{b}" for a in "bcdfghklmn" for b in "aeiouy"] + [
        f"zoi{c}" for c in "abcdefgh"
    ]
    wanted = set()
    for n, word in enumerate(rare):
        first = ("Anna", "Ana Lou", "Johanna", "Ben")[n % 4]
        lead = await make_lead(pool, tenant.id, email=f"z{n}@z.io", name=f"{first} {word}")
        wanted |= {lead} if n % 4 < 2 else set()
    hits, pagination = await search(api, "an zoi", "&limit=100")
    assert {hit["id"] for hit in hits} == wanted
    assert pagination["total"] == len(wanted) == 34
