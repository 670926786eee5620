"""The search document of a lead: the folded words of its fields, and keys for lists."""

import json
from typing import Any

import pytest

from service.database.connect import Connection, Pool
from tests.harness.factories import make_lead, make_tenant

HOT_UPDATES = "SELECT pg_stat_get_xact_tuples_hot_updated('lead_search'::regclass)"


@pytest.mark.parametrize(
    ("raw", "folded"),
    [
        ("Sarah.Chen@AcmeCorp.com", "sarah chen acmecorp com"),
        ("Łukasz Ångström-Çelik", "lukasz angstrom celik"),
        ("STRASSE Straße ﬁn Ⅷ ＡＢＣ１", "strasse strasse fin viii abc1"),
        ("ΣΊΣΥΦΟΣ σίσυφος", "σισυφοσ σισυφοσ"),
        ("Нгуен Йод", "нгуен иод"),
        ("株式会社・東京、ﾃｽﾄ", "株-式-会-社 東-京 て-す-と"),
        ("王小明Wang", "王-小-明 wang"),
        ("박지민", "박-지-민"),
        ("हिन्दी", "हिंदी"),
        ("Anna🎉🚀x — “y”…", "anna x y"),
        ("100% _under_ back\\slash 'quote'", "100 under back slash quote"),
        ("مرحبا، عالم؟", "مرحبا عالم"),
    ],
)
async def test_folding_removes_differences_that_a_search_ignores(
    pool: Pool, raw: str, folded: str
) -> None:
    assert " ".join((await pool.fetchval("SELECT search_fold($1)", raw)).split()) == folded
    # Folding is idempotent: a search may contain either form.
    again = await pool.fetchval("SELECT search_fold($1)", folded.replace("-", ""))
    assert " ".join(again.split()) == folded


async def describe(conn: Connection, **columns: Any) -> tuple[list[str], list[str]]:
    """The fields and keys in the search document of a lead."""
    tenant = await make_tenant(conn)
    lead_id = await make_lead(conn, tenant.id, **columns)
    row = await conn.fetchrow("SELECT text, keys FROM lead_search WHERE id = $1", lead_id)
    assert row is not None
    fields = [" ".join(field.split()) for field in row["text"].split("\1")]
    return fields, row["keys"].split("\1")[1:]


async def test_fields_are_in_the_order_of_match_field(conn: Connection) -> None:
    fields, keys = await describe(
        conn, name="Zoë", company=None, email="z@x.io", tags=["a b", "c'd"], assigned_to="u_1",
        custom_fields={
            "b": "one", "a": {"k": ["two", 3, None, {"deep": "four"}]}, "n": None, "t": True,
            "s": '{"not": "json', "l": "x" * 100,
        },
    )  # fmt: skip
    assert fields == ["zoe", "", "z x io", "one", "two 3 four", "", "true", "not json", "x" * 100]
    assert keys == [
        "#a b", "#c'd", "@u_1", ":b=one", ':a={"k":["two",3,null,{"deep":"four"}]}', ":t=true",
        ':s={"not": "json', ":l=" + "x" * 64,
    ]  # fmt: skip


async def test_a_separator_in_a_value_does_not_move_the_fields(conn: Connection) -> None:
    fields, _ = await describe(conn, name="a\1b", email="c@x.io", custom_fields={"k": "d\1e"})
    assert fields == ["a b", "", "c x io", "d e"]


async def test_very_long_words_and_many_fields_are_stored(conn: Connection) -> None:
    fields, _ = await describe(
        conn, name="ﷲ" * 200, email="d@x.io",
        custom_fields={"blob": "ab1" * 5_000, **{f"k{n}": "v" for n in range(99)}},
    )  # fmt: skip
    assert [len(field) for field in fields[:4]] == [200, 0, 6, 200]
    assert len(fields) == 103


@pytest.mark.parametrize("escape", ["\\u0000", "\\ud800"])
async def test_a_lead_with_json_that_text_cannot_hold_is_stored(
    conn: Connection, escape: str
) -> None:
    tenant = await make_tenant(conn)
    lead_id = await make_lead(conn, tenant.id, name="Kept")
    await conn.execute(
        "UPDATE lead SET custom_fields = $2 WHERE id = $1", lead_id, f'{{"a": "{escape}"}}'
    )
    text = await conn.fetchval("SELECT text FROM lead_search WHERE id = $1", lead_id)
    assert "kept" in text


async def test_a_new_score_or_status_updates_the_search_row_in_place(conn: Connection) -> None:
    tenant = await make_tenant(conn)
    lead_id = await make_lead(conn, tenant.id, name="Anna", custom_fields={"a": 1})
    before = await conn.fetchval(HOT_UPDATES)
    await conn.execute(
        "UPDATE lead SET score = 7, status = 'lost', custom_fields = $2 WHERE id = $1",
        lead_id, json.dumps({"a": 1}),
    )  # fmt: skip
    in_place = await conn.fetchval(HOT_UPDATES) - before
    row = await conn.fetchrow("SELECT status_source, score FROM lead_search WHERE id = $1", lead_id)
    assert row is not None
    assert (row["status_source"], row["score"], in_place) == (17, 7, 1)


async def test_words_of_unspaced_scripts_are_tokens_of_two_syllables_and_not_in_the_lexicon(
    conn: Connection,
) -> None:
    tenant = await make_tenant(conn)
    await make_lead(conn, tenant.id, email="x@x.io", name="김 민수", company="株式会社ABC")
    tokens = await conn.fetchval(
        "SELECT tsvector_to_array(search_tokens(tenant_id, live, text, keys)) FROM lead_search "
        "WHERE tenant_id = $1",
        tenant.id,
    )
    words = {token.split("=")[1] for token in tokens}
    assert words == {"김민", "민수", "-수", "株式", "-式会", "-会社", "-社", "abc", "x", "io"}
    assert await conn.fetch("SELECT word FROM lead_word WHERE tenant_id = $1", tenant.id) == []


async def test_a_phone_number_is_a_key_and_no_word(conn: Connection) -> None:
    fields, keys = await describe(
        conn, email="p@x.io", phone="(555) 014-2000 x22", phone_e164="+15550142000", tags=["a"]
    )
    assert (fields, keys) == (["", "", "p x io"], ["#a", "+5550142000.1", ""])


async def test_the_lexicon_has_each_word_once_and_no_numbers_or_short_words(
    conn: Connection,
) -> None:
    tenant = await make_tenant(conn)
    for n in range(3):
        await make_lead(conn, tenant.id, email=f"m{n}@x.io", name="Anna Bergmann 12345 R2D2")
    words = await conn.fetch(
        "SELECT word FROM lead_word WHERE tenant_id = $1 ORDER BY word", tenant.id
    )
    assert [row["word"] for row in words] == ["anna", "bergmann", "r2d2"]


HOSTILE = {
    "numbers with hundreds of digits": {"a": [1e308] * 2300},
    "combining marks in the wrong order": {"a": "a" + "\u0301\u0327" * 3900},
    "marks of another script": {"a": "\u0915" + "\u094d\u093c" * 2500},
    "syllables without spaces": {"a": "김민수박영희" * 890},
    "syllables with spaces": {"a": "김 민-수 " * 1280},
}


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=list(HOSTILE))
async def test_no_custom_fields_of_16_kib_cost_much_to_index(
    conn: Connection, fields: dict[str, Any]
) -> None:
    document = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).replace("e+", "e")
    assert len(document.encode()) <= 16 * 1024
    await conn.execute("SET LOCAL statement_timeout = '4s'")  # formerly 6 to 30 s
    texts = await conn.fetch(
        "SELECT octet_length(d.text) AS size FROM generate_series(1, 8) AS n CROSS JOIN LATERAL "
        "search_document(n::text, 'c', 'e@example.com', $1::json, '{}', NULL, NULL, NULL) AS d",
        document,
    )
    assert max(row["size"] for row in texts) < 4 * 16 * 1024


async def test_a_long_text_without_spaces_is_indexed_to_its_end(conn: Connection) -> None:
    text = await conn.fetchval("SELECT search_fold($1)", "王" * 2950 + "明月")
    assert text.replace("-", "").replace(" ", "") == "王" * 2950 + "明月"
    tokens = await conn.fetchval("SELECT search_tokens(7, true, $1, '')::text", text)
    assert tokens == "'7l=-明月' '7l=-月' '7l=-王明' '7l=-王王' '7l=王王'"
