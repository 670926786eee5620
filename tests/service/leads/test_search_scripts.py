"""Search in all scripts: spellings that people take for equal, and words without spaces."""

# letters that look alike are the subject

from urllib.parse import quote

import msgspec
import pytest

import sql
from service.database.connect import Connection, Pool
from tests.harness.api_client import Api
from tests.harness.factories import Tenant, make_lead, make_tenant

ALL_HITS = (None, 10_000, None, None, None, 0, 26, 25)
"""The parameters of lead_search_find behind the question."""


@pytest.mark.parametrize(
    ("name", "q"),
    [
        ("مُحَمَّد الحلّة", "محمد"),
        ("شـابوص", "شابوص"),
        ("Rei\u00adnecke", "reinecke"),
        ("علی\u200cرضا", "علیرضا"),
        ("رقية أحمد", "رقيه احم"),
        ("שָׁלוֹם עֲלֵיכֶם", "עליכמ"),
        ("김민수", "민수"),
        ("やまだゆき", "ゆき"),
        ("ｻｲﾄｳ一郎", "さいとう"),
        ("Ольга Ґеращенко", "геращенко"),
        ("עמרי שמואלביץ", "שמואלביז"),
        ("مصطفى", "مصطفىا"),
    ],
)
async def test_a_name_is_found_by_another_spelling(
    api: Api, pool: Pool, tenant: Tenant, name: str, q: str
) -> None:
    lead_id = await make_lead(pool, tenant.id, name=name)
    response = await api.get(f"/v1/leads/search?q={quote(q)}")
    assert response.status == 200, response.body
    assert (lead_id, "name") in [(hit["id"], hit["matchField"]) for hit in response.json["data"]]


@pytest.mark.parametrize(
    "q", ["\u200b\u200c", "\u0301\u0301", "\u064b\u0640", "\u3164\u115f", "\u00ad" * 190]
)
async def test_a_query_of_nothing_that_can_be_seen_finds_nothing(
    api: Api, pool: Pool, tenant: Tenant, q: str
) -> None:
    await make_lead(pool, tenant.id, name=f"x{q}y")
    response = await api.get(f"/v1/leads/search?q={quote(q)}")
    assert (response.status, response.json["pagination"]["total"]) == (200, 0)


UNSPACED = [
    ("김민수", "김민수", 0),
    ("김민수", "김민", 1),
    ("김민수", "민수", 2),
    ("김민수", "김 민수", 2),
    ("김 민수", "김민수", 0),
    ("김 민수", "민수", 0),
    ("김민수", "수민", None),
    ("やまだゆき", "ゆき", 2),
    ("やまだゆき", "まだゆ", 2),
    ("やまだゆき", "やまだゆきき", 3),
    ("やまだゆき", "やまだきゆ", 3),
    ("やまだゆき", "やだまゆ", None),
    ("ジョン・スミス", "ジョンスミス", 0),
    ("ジョン・スミス", "スミス", 0),
    ("ジョンスミス", "ジョン・スミス", 2),
    ("山田太郎", "山田　太郎", 2),
    ("山田　太郎", "山田太郎", 0),
    ("山田 太郎", "田太", 2),
    ("松本潤", "松本 潤", 2),
    ("王小明", "小明", 2),
    ("王小明", "王 小明", 2),
    ("王小明", "小花", None),
    ("王小明", "明小", None),
    ("佐々木", "々木", 2),
    ("株式会社ABC", "株式会社abc", 0),
    ("株式会社ABC", "abc 会社", 2),
    ("株式会社ABC", "社a", None),
    ("삼성SDS", "삼성sds", 0),
    ("LG전자", "전자", 0),
    ("주식회사 카카오뱅크", "카카오 뱅크", 2),
    ("카카오 Bergmannhof", "카오 mannho", 2),
    ("ㄅㄆㄇ", "ㄆㄇ", 2),
    ("𠀋𠂉𠂢", "𠂉𠂢", 2),
]


@pytest.mark.parametrize("field", ["name", "company", "customFields.k"])
@pytest.mark.parametrize(("value", "q", "tier"), UNSPACED)
async def test_parts_of_unspaced_words_are_found_in_their_tier(
    conn: Connection, field: str, value: str, q: str, tier: int | None
) -> None:
    tenant = await make_tenant(conn)
    column = {"custom_fields": {"k": value}} if "." in field else {field: value}
    lead_id = await make_lead(conn, tenant.id, **column)
    await make_lead(conn, tenant.id, name="이영희 鈴木一郎 さとう")
    rows = await conn.fetch(sql.lead_search_find, tenant.id, True, q, *ALL_HITS)
    hits = [(row["id"], row["tier"]) for row in rows if row["id"] is not None]
    assert hits == ([] if tier is None else [(lead_id, tier)])
    for row in rows[: len(hits)]:
        assert msgspec.json.decode(row["body"])["matchField"] == field
