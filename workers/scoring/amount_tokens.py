"""Splits a text with amounts into tokens: numbers, scales, currencies, periods and other words.

Languages without blanks (Chinese, Japanese, Korean, Thai) are split by the known terms; numerals
are split into characters.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

from workers.scoring.currencies import CURRENCIES
from workers.scoring.folding import UNSPACED, fold
from workers.scoring.numerals import NUMERALS, SCALES, SHORT_SCALES, read_digits
from workers.scoring.periods import LATER, PERIODS, TIME_NOUNS

Kind = Literal[
    "number", "numeral", "scale", "currency", "period", "time", "people", "range", "minus",
    "dash", "open", "close", "colon", "part", "other", "end",
]  # fmt: skip


class Token(NamedTuple):
    """A token of folded text, at `start` to `end`.

    Its value is the number or scale, the units of a currency per dollar, or the times per year.
    """

    kind: Kind
    value: float
    text: str
    start: int
    end: int

    @property
    def is_unspaced(self) -> bool:
        return self.text[0] >= _UNSPACED_START

    def is_beside(self, other: "Token") -> bool:
        return self.end == other.start or other.end == self.start


_PEOPLE = fold("""
    employee employees people persons person ppl staff users user seats seat headcount heads fte
    ftes members workers colleagues engineers reps agents mitarbeiter mitarbeitende
    mitarbeiterinnen ma leute personen empleados empleadas personas trabajadores employés salariés
    personnes collaborateurs dipendenti persone addetti funcionários colaboradores pessoas
    medewerkers mensen pracowników osób сотрудников сотрудника человек людей чел çalışan kişi người
    nhân karyawan orang कर्मचारी लोग موظف موظفا שעובדים עובדים
    人 名 员工 員工 社員 従業員 位 명 사람 직원 인 คน
""").split()
_RANGES = fold("""
    to bis à a до do tot til till ila đến hingga sampai and und et y e и i
    से から 到 至 에서 부터 ー ~ &
""").split()
_MINUSES = fold("minus negative moins menos meno минус マイナス 负 負 마이너스 △ ▲").split()
_PARTS = ("%", "percent", "pct", "prozent", "st", "nd", "rd", "th", "x")
"""After a number these make it a share, a rank or a factor: no amount."""


def _list_terms() -> Iterator[tuple[str, Kind, float]]:
    kinds: Iterable[tuple[Kind, dict[str, float]]] = (
        ("people", dict.fromkeys(_PEOPLE, 0.0)), ("range", dict.fromkeys(_RANGES, 0.0)),
        ("minus", dict.fromkeys(_MINUSES, 0.0)), ("part", dict.fromkeys(_PARTS, 0.0)),
        ("other", dict.fromkeys(LATER, 0.0)), ("time", TIME_NOUNS), ("period", PERIODS),
        ("numeral", NUMERALS), ("scale", SCALES), ("currency", CURRENCIES),
        ("dash", {"-": 0}), ("open", {"(": 0}), ("close", {")": 0}), ("colon", {":": 0, "=": 0}),
    )  # fmt: skip
    for kind, table in kinds:
        for word, value in table.items():
            yield word, kind, value


_TERMS: dict[str, tuple[tuple[Kind, float], ...]] = {
    **{word: ((kind, value),) for word, kind, value in _list_terms()},
    "lpa": (("scale", 1e5), ("period", 1)),
    "тр": (("scale", 1e3), ("currency", CURRENCIES["р"])),
}
"""What each folded word stands for; the later of equal words counts."""
_COMPOUND_SCALES = SHORT_SCALES | {
    scale: SCALES[scale] for scale in ("k", "m", "mm", "mn", "mio", "mln", "b", "bn")
}

_UNSPACED_START = "\u0e00"
_LETTER = rf"[^\s\d!-/:-@\[-`{{-~\u00a1-\u00a9\u00ab-\u00b4\u2000-\u20cf\u2190-\u2bff{UNSPACED}]"
_LONG_TERMS = "|".join(
    re.escape(word)
    for word in sorted(_TERMS, key=len, reverse=True)
    if re.fullmatch(rf"[{UNSPACED}ー]+", word) and len(word) > 1
)
_PHONE_OR_DATE = r"""
    # +1-555-0142, (555) 014-2000, 0171 2345678, 555-014-2000 and 2027-01-15, 5551234567
    \+\d(?:[ ().-]{0,2}\d){6,} | \(\d{3}\)[ ]?\d{3}[ .-]\d{4} | 0\d+(?:[ /-]\d{2,})+
    | \d{1,4}(?:-\d{2,4}){2,}(?!\d)(?:t[\d:.]+z?)? | \d{7,9}(?!000)\d{3}$
    # 2027/1/15, 15.1.2027, 2026/27, 2026-01, 2026/1, 1/2026, 10:30, '26, 24/7
    | \d{4}[./]\d{1,2}[./]\d{1,2}(?!\d) | \d{1,2}[./]\d{1,2}[./](?:\d{4}|\d\d)(?![\d.,])
    | 20[1-4]\d(?:[ ]?[/-][ ]?20[1-4]\d|[/-](?:0[1-9]|1[0-2]|[2-4]\d|[1-9]))(?![\d.,km])
    | (?:0?[1-9]|1[0-2])[./]20[1-4]\d(?!\d) | \d{1,2}:\d\d(?![\dk]) | '\d\d(?!\d) | 24/7
    # Q3, Q3/26, 3Q26, 2026-Q3, H1
    | (?:20[1-4]\d[ -]?)?(?:[1-4][qh]|[qhts][1-4])
      (?:[/'-]{1,2}\d\d(?!\d|[.,]\d|[ ]?[km])|\d\d)?(?!\w)
"""
_TOKEN = re.compile(
    rf"""
    (?P<skipped>(?<!\w)(?=[\d+('qhts])(?:{_PHONE_OR_DATE}))
    | (?P<digits>\d{{1,3}}(?:[ ]\d{{3}})+(?!\d)(?:[.,]\d{{1,2}}(?!\d))?
        | \d+(?:[.,'_]\d+)*(?:e[+-]?\d+(?!{_LETTER})|[.,]-+(?!\d))? | (?<![^\s$€£¥₹])\.\d+)
    | (?P<abbreviation>{_LETTER}(?:\.{_LETTER})+(?!{_LETTER}))
    | (?P<word>(?:us|r|ca?|au?|nz|sg?|hk|nt|mx)?\$ | /(?:[adjmqwy]|mn?d|mon)(?!{_LETTER})
       | t[€£] | s/\.?(?=[ ]?\d) | ש["״]ח | {_LETTER}+
       | {_LONG_TERMS} | [^\s.])
    """,
    re.VERBOSE,
)
_MORE_THAN = ("多", "余", "餘")
"""After a numeral: 五十多万 is a little more than 500,000."""
_END = Token("end", 0, "\0", -1, -1)


def tokenize(text: str) -> list[Token]:
    """The tokens of folded text, and two of kind end, so that each token has neighbours.

    Blanks and dots are left out.
    """
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        word = match[0]
        if match.lastgroup == "digits":
            tokens.append(_make_number(word, start, end, tokens))
            continue
        if match.lastgroup == "abbreviation":
            word = word.replace(".", "")
        if word in _MORE_THAN and tokens and tokens[-1].end == start:
            continue
        terms = (("other", 0.0),) if match.lastgroup == "skipped" else _find_terms(word)
        tokens += [Token(kind, value, word, start, end) for kind, value in terms]
    return [*tokens, _END, _END]


def _make_number(digits: str, start: int, end: int, before: list[Token]) -> Token:
    """No number follows a word without a blank (Q3, v2, fy27), except a currency (usd50)."""
    value = read_digits(digits)
    is_code = bool(before) and before[-1].end == start and _starts_code(before[-1])
    kind: Kind = "other" if is_code or value is None else "number"
    return Token(kind, value or 0, digits, start, end)


def _starts_code(token: Token) -> bool:
    return token.kind != "currency" and token.text[-1].isalpha() and not token.is_unspaced


@lru_cache(maxsize=4096)
def _find_terms(word: str) -> tuple[tuple[Kind, float], ...]:
    """The terms of a word, also of one like "meur": a scale and a currency."""
    if terms := _TERMS.get(word):
        return terms
    for length in range(1, 4):
        scale, currency = word[:length], word[length:]
        if scale in _COMPOUND_SCALES and currency in CURRENCIES:
            return ("scale", _COMPOUND_SCALES[scale]), ("currency", CURRENCIES[currency])
    return (("other", 0.0),)
