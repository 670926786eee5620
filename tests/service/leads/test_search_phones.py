"""Search by phone number: its digits in any grouping, with and without country code."""

# digits of other scripts are meant

from typing import Any
from urllib.parse import quote

import msgspec
import pytest

import sql
from service.access.authentication import Principal
from service.database.connect import Connection, Pool
from service.leads.models import NewLead
from service.leads.rows import make_lead_row
from service.leads.search import lead_search
from service.leads.search.lead_search import LeadSearch
from service.leads.search.query import SearchQuery
from tests.harness.api_client import Api
from tests.harness.factories import Tenant, make_lead, make_tenant

LEADS: list[dict[str, Any]] = [
    {
        "email": "us@x.io",
        "name": "Room 555",
        "phone": "(555) 014-2000",
        "phone_e164": "+15550142000",
    },
    {"email": "de@x.io", "phone": "0171 2345678", "phone_e164": "+491712345678"},
    {"email": "uk@x.io", "phone": "tel:+44 20/7946-0958 x22"},
    {"email": "sa@x.io", "phone": "٠٥٠١٢٣٤٥٦٧"},
    {"email": "it@x.io", "phone": "+39 06 9876543", "custom_fields": {"a": 1, "b": [2, 3]}},
    {"email": "mob@x.io", "custom_fields": {"mobile": "03012399"}, "phone": "+4930555"},
    {"email": "old@x.io", "custom_fields": {"mobile": "0301239"}, "phone": "no 1"},
    {"email": "note@x.io", "custom_fields": {"fax": "+1 (555) 867-5309"}},
]


@pytest.fixture(scope="module", autouse=True)
async def leads(pool: Pool, tenant: Tenant) -> None:
    for lead in LEADS:
        await make_lead(pool, tenant.id, **lead)


async def find(api: Api, q: str) -> list[tuple[str, str]]:
    response = await api.get(f"/v1/leads/search?q={quote(q, safe='')}")
    assert response.status == 200, response.body
    return [(hit["email"], hit["matchField"]) for hit in response.json["data"]]


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("5550142000", [("us@x.io", "phone")]),
        ("555 014 2000", [("us@x.io", "phone")]),
        ("+1 555 014 2000", [("us@x.io", "phone")]),
        ("+1 (555) 014-2000 ext. 7", [("us@x.io", "phone")]),
        ("0015550142000", [("us@x.io", "phone")]),
        ("+1 555 014", [("us@x.io", "phone")]),
        ("5550-14", [("us@x.io", "phone")]),
        ("0171 2345678", [("de@x.io", "phone")]),
        ("0171/23 45 678", [("de@x.io", "phone")]),
        ("+49 171 2345678", [("de@x.io", "phone")]),
        ("1712345678", [("de@x.io", "phone")]),
        ("٠١٧١ ٢٣٤٥٦٧٨", [("de@x.io", "phone")]),
        ("020 7946 0958", [("uk@x.io", "phone")]),
        ("442079460958", [("uk@x.io", "phone")]),
        ("44207946095822", []),
        ("050 123 4567", [("sa@x.io", "phone")]),
        ("06 9876543", [("it@x.io", "phone")]),
        ("+1 (555) 867", [("note@x.io", "customFields.fax")]),
        ("5309 555", [("note@x.io", "customFields.fax")]),
        ("030 123 99", [("mob@x.io", "customFields.mobile")]),
        ("5550", []),
        ("+966 50 123 4567", [("sa@x.io", "phone")]),
        ("+44 171 2345678", []),
        ("0491712345678", []),
        ("014 2000", []),
        ("5550142001", []),
    ],
)
async def test_a_lead_is_found_by_its_phone_number(
    api: Api, q: str, expected: list[tuple[str, str]]
) -> None:
    assert await find(api, q) == expected


@pytest.mark.parametrize(
    ("phone", "q"),
    [
        ("12 34 56 22", "+45 12 34 56 22"),
        ("6123 4522", "+65 6123 4522"),
        ("02-312-3522", "+82 2 312 3522"),
        ("030 771922", "+49 30 771922"),
        ("+7 916 123-45-22", "8 916 123 45 22"),
        ("8 916 123-45-22", "+7 916 123 45 22"),
        ("916 123-45-22", "8 (916) 123-45-22"),
    ],
)
async def test_a_national_number_is_found_by_the_international_one(
    api: Api, pool: Pool, phone: str, q: str
) -> None:
    async with pool.acquire() as conn:
        there = await make_tenant(conn)
    await make_lead(pool, there.id, email="n@x.io", phone=phone)
    assert await find(api.of(there), q) == [("n@x.io", "phone")]


async def test_a_phone_number_is_the_last_field_of_a_match(
    api: Api, pool: Pool, tenant: Tenant
) -> None:
    await make_lead(pool, tenant.id, email="a@y.io", name="7770001111", phone="+7770001111")
    await make_lead(
        pool, tenant.id, email="b@y.io", phone="+7770002222", custom_fields={"k": 7770002222}
    )
    assert await find(api, "7770001111") == [("a@y.io", "name")]
    assert await find(api, "777 000 2222") == [("b@y.io", "customFields.k")]


async def test_a_changed_phone_number_is_found_at_once_and_the_old_one_no_longer(api: Api) -> None:
    created = await api.post("/v1/leads", {"email": "new@x.io", "phone": "+1 212 555 0100"})
    path = f"/v1/leads/{created.json['id']}"
    assert await find(api, "212 555 0100") == [("new@x.io", "phone")]
    await api.patch(path, {"phone": "+1 212 555 0199"})
    assert await find(api, "212 555 0100") == []
    assert await find(api, "+12125550199") == [("new@x.io", "phone")]
    await api.patch(path, {"phone": None})
    assert await find(api, "+12125550199") == []


async def test_a_tenants_phone_region_completes_its_numbers(api: Api, pool: Pool) -> None:
    async with pool.acquire() as conn:
        german = await make_tenant(conn)
        assert await conn.fetchval(sql.tenant_set_phone_region, german.name, "DE") == german.id
    there = api.of(german)
    made = await there.post("/v1/leads", {"email": "a@de.io", "phone": "0171 555 0001"})
    assert await find(there, "+49 171 5550001") == [("a@de.io", "phone")]
    assert (await there.patch(f"/v1/leads/{made.json['id']}", {"phone": "(030) 555 0002"})).json[
        "phone"
    ] == "(030) 555 0002"
    assert await find(there, "+49 30 5550002") == [("a@de.io", "phone")]
    assert await find(api, "+49 30 5550002") == []


async def test_phone_e164_is_stored_and_not_shown(conn: Connection) -> None:
    tenant = await make_tenant(conn)
    who = Principal("key", tenant.id, True, "write")
    new = NewLead(email="e@x.io", phone="+1 555 014 2000")
    row = msgspec.to_builtins(make_lead_row(who, new, None))
    [created] = await conn.fetch(sql.lead_insert_many, msgspec.json.encode([row]).decode())
    assert "e164" not in created["body"]
    read = "SELECT phone_e164 FROM lead WHERE id = $1"
    assert await conn.fetchval(read, row["id"]) == "+15550142000"
    for patch, stored in (
        ({"name": "Ann"}, "+15550142000"),
        ({"phone": "+1 555 014 3000", "phone_e164": "+15550143000"}, "+15550143000"),
        ({"phone": "+1 555 014 4000"}, None),
    ):
        await conn.fetch(
            sql.lead_update_many, encode_patch(tenant, row["id"], patch), 16384, 100, True
        )
        assert await conn.fetchval(read, row["id"]) == stored


def encode_patch(tenant: Tenant, lead_id: str, patch: dict[str, Any]) -> str:
    return msgspec.json.encode([{
        "ordinal": 0, "tenant_id": tenant.id, "live": True, "id": lead_id, "patch": patch,
        "clears_fields": False, "actor": "k", "event_id": f"evt_{len(patch)}{patch.get('phone')}",
    }]).decode()  # fmt: skip


@pytest.mark.parametrize("scan_cost", [0.01, 100.0], ids=["scanned", "from the index"])
async def test_a_broad_search_finds_phone_numbers_too(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, scan_cost: float
) -> None:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    for n in range(60):
        await make_lead(pool, tenant.id, phone=f"+1 555 01{n:02}", score=n % 7)
    await make_lead(pool, tenant.id, company="1 55501")
    await pool.execute("ANALYZE lead_search")
    monkeypatch.setattr(lead_search, "MOST_SCANNED", 4_000)
    who = Principal("key", tenant.id, True, "read")
    exact = await read_ids(LeadSearch(pool), who)
    broad = LeadSearch(pool, most_counted=20, few_leads=0, scan_cost=scan_cost)
    assert len(exact) == 61
    assert await read_ids(broad, who) == exact


async def read_ids(search: LeadSearch, who: Principal) -> list[str]:
    page = msgspec.json.decode(await search.read(who, SearchQuery(q="+1 55501", limit=100)))
    return [hit["id"] for hit in page["data"]]
