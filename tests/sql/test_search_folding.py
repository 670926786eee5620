"""Folding in all scripts: what is equal, and what stays different.

The decisions are written down in sql/migrations/0009_search.sql, under FOLDING.
"""

# letters that look alike are the subject

import re
import unicodedata

import pytest

from service.database.connect import Pool

EQUAL = {
    "what cannot be seen": [
        ("Rei\u00adnecke", "reinecke"),
        ("Rei\u200bnecke", "reinecke"),
        ("\ufeffReinecke", "rei\u2060necke"),
        ("Ann\ufe0f Lee", "ann lee"),
        ("\u202eEvil\u202c", "\u2066evil\u2069"),
        ("Zo\u034fe\u0308", "zoë"),
        ("Ta\U000e0041gged", "tagged"),
        ("Be\x07ll\x7f", "bell"),
    ],
    "Latin": [
        ("Nguyễn Văn Đạt", "nguyen van dat"),
        ("Ｔａｒｏ ﬁn", "taro fin"),
        ("IŞIK Iğdır", "ışık iğdir"),
        ("Großmann Æsir Œuvre", "GROSSMANN aesir oeuvre"),
        ("Oʻzbek", "o'zbek"),
        ("Əliyeva", "eliyeva"),
        ("Gaŀla", "galla"),
        ("COL·LECCIÓ", "colleccio"),
        ("a\u0300\u0316\u0301nna", "anna"),
    ],
    "Greek": [("Γιώργος", "ΓΙΩΡΓΟΣ"), ("ᾠδή", "ωδη")],
    "Cyrillic": [
        ("Фёдор Йод", "федор иод"),
        ("Ірина Їжак", "Ирина Ижак"),
        ("Ґалаґан Євген", "галаган евген"),
        ("Ғабит Қожа Әлия", "габит кожа алия"),
        ("Мі\u0301хал", "мiхал".replace("i", "і")),
    ],
    "Hebrew": [("שָׁלוֹם", "שלום"), ("אברהם", "אברהמ"), ("רבינוביץ׳", "רבינוביץ"), ("ײִדיש", "יידיש")],
    "Arabic": [
        ("مُحَمَّد الحلّة", "محمد الحله"),
        ("محمد", "مُحَمَّد"),
        ("شـابوص", "شابوص"),
        ("علی\u200cرضا", "علیرضا"),
        ("أحمد إبراهيم آدم ٱسم", "احمد ابراهيم ادم اسم"),
        ("مؤمن هيئة شيماء", "مومن هييه شيما"),
        ("ليلى", "لیلی"),
        ("فاطمة", "فاطمه"),
        ("کریم", "كريم"),
        ("ﻣﺤﻤﺪ", "محمد"),
        ("٤٢٤٢٤ ۵۶۷۸", "42424 5678"),
    ],
    "India": [
        ("ज़रीना", "जरीना"),
        ("\u095b", "ज"),
        ("माँ", "मां"),
        ("ড়িয়া", "ডিযা"),
        ("दुकान १०८", "दुकान 108"),
        ("हिंदी", "हिन्दी"),
        ("पाण्डेय", "पांडेय"),
        ("सम्पर्क", "संपर्क"),
        ("সঙ্গীত", "সংগীত"),
        ("ગાન્ધી", "ગાંધી"),
        ("ਸਿੰਘ", "ਸਿਂਘ"),
        ("മോഹൻലാൽ", "മോഹന്‍ലാല്‍"),
    ],
    "South-East Asia": [
        ("น้ำใหม่", "นำใหม"),
        ("ລ້ານ", "ລານ"),
        ("ร้าน ๑๒๓๔", "ราน 1234"),
        ("แพรวา", "เเพรวา"),
        ("ແກ້ວ", "ເເກວ"),
    ],
    "others": [
        ("Զօհրապյան", "ԶՕՀՐԱՊՅԱՆ"),
        ("Սևակ", "Սեվակ"),
        ("Սևակ", "ՍԵՒԱԿ"),
        ("მარიამ", "ᲛᲐᲠᲘᲐᲛ"),
        ("ᠮ\u180eᠣ", "ᠮᠣ"),
        ("ܫ\u0733ܠܡܐ", "ܫܠܡܐ"),
    ],
    "Kana": [
        ("ﾔﾏﾀﾞ", "ヤマダ"),
        ("ヤマダ", "やまだ"),
        ("キヤノン", "キャノン"),
        ("富士フイルム", "富士フィルム"),
        ("か\u3099", "が"),
        ("いすゞ", "いすず"),
        ("イスヾ", "いすず"),
        ("すゝき", "すすき"),
        ("コ－ヒー", "コーヒー"),
        ("ｾﾝﾀ－", "センター"),
    ],
    "Hangul": [
        (unicodedata.normalize("NFD", "김민수"), "김민수"),
        ("김민수", unicodedata.normalize("NFD", "김민수")),
        ("김\u3164민수", "김민수"),
    ],
    "Han": [("髙橋", "高橋"), ("山﨑", "山崎"), ("𠮷野", "吉野"), ("㈱日立", "株 日立")],
}
DIFFERENT = [
    ("はた", "ばた"),
    ("ビル", "ビール"),
    ("कमल", "कमला"),
    ("हिंदी", "हिंद्"),
    ("जन्म", "जंम"),
    ("佐々木", "佐佐木"),
    ("山田－一郎", "山田ー一郎"),
    ("แม", "มา"),
    ("國", "国"),
    ("一二", "12"),
    ("קול", "כל"),
    ("בית", "פית"),
    ("جمل", "حمل"),
]


async def fold(db: Pool, text: str) -> str:
    return " ".join((await db.fetchval("SELECT search_fold($1)", text)).split())


@pytest.mark.parametrize(
    ("name", "q"),
    [
        pytest.param(*spellings, id=f"{script}-{n}")
        for script, cases in EQUAL.items()
        for n, spellings in enumerate(cases)
    ],
)
async def test_spellings_that_people_take_for_equal_fold_to_the_same_words(
    pool: Pool, name: str, q: str
) -> None:
    assert await fold(pool, name) == await fold(pool, q)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
async def test_different_words_stay_different(pool: Pool, one: str, other: str) -> None:
    assert await fold(pool, one) != await fold(pool, other)


async def test_every_mark_of_a_modern_script_is_folded_away(pool: Pool) -> None:
    kept = {8, 9, 84, 91, 103, 118, 129, 130, 132}  # see search_marks
    marks = [
        mark for mark in map(chr, range(0x10000))
        if unicodedata.combining(mark) not in kept | {0}
        and not "\u1a17" <= mark <= "\u1a18" and not "\uaab0" <= mark <= "\uaabe"
    ]  # fmt: skip
    folded = await pool.fetch(
        "SELECT mark, search_fold('я' || mark || 'я') AS word FROM unnest($1::text[]) AS mark",
        marks,
    )
    assert len(folded) > 600
    assert [f"{ord(row['mark']):04x}" for row in folded if row["word"] != "яя"] == []


async def test_every_default_ignorable_character_is_folded_away(pool: Pool) -> None:
    ranges = (
        "00ad 034f 061c 115f-1160 17b4-17b5 180b-180f 200b-200f 202a-202e 2060-206f 3164 "
        "fe00-fe0f feff ffa0 fff0-fff8 1bca0-1bca3 1d173-1d17a e0000-e0fff"
    )
    ends = [span.split("-") for span in ranges.split()]
    characters = [chr(n) for span in ends for n in range(int(span[0], 16), int(span[-1], 16) + 1)]
    for around in ("a", "я", "ア"):
        folded = await pool.fetchval(
            "SELECT array_agg(DISTINCT search_fold($1 || c || $1)) FROM unnest($2::text[]) AS c",
            around, characters,
        )  # fmt: skip
        assert folded == [await pool.fetchval("SELECT search_fold($1)", around * 2)]


async def test_every_digit_is_an_ascii_digit(pool: Pool) -> None:
    digits = [c for c in map(chr, range(0x20000)) if unicodedata.category(c) == "Nd"]
    rows = await pool.fetch("SELECT c, search_fold(c) AS word FROM unnest($1::text[]) AS c", digits)
    assert [row["c"] for row in rows if row["word"] != str(unicodedata.digit(row["c"]))] == []


async def test_the_index_knows_the_same_unspaced_scripts_as_the_folding(pool: Pool) -> None:
    unspaced, source = await pool.fetchrow(
        "SELECT search_unspaced(), (SELECT prosrc FROM pg_proc WHERE proname = 'search_tokens')"
    )
    assert unspaced in re.sub(r"'\n\s*'", "", source)
