"""Folds text as people type it, so that one spelling stands for all: for titles and amounts."""

import re
import unicodedata

from service.validation.characters import INVISIBLE

UNSPACED = r"\u0e00-\u0e7f\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff"
"""The letters of scripts that write words without blanks, or attach particles, for a regex set."""

_DASHES = (
    0x2D7, 0x58A, 0x5BE, *range(0x2010, 0x2016), 0x2043, 0x207B, 0x208B, 0x2212, 0x2E3A, 0x2E3B,
    0xFE31, 0xFE32, 0xFE58, 0xFE63, 0xFF0D,
)  # fmt: skip
_APOSTROPHES = (0x60, 0xB4, 0x2B9, 0x2BC, 0x2018, 0x2019, 0x2032, 0x66C)  # as in 20'000
_WAVES = (0x2053, 0x223C, 0x301C, 0x3030)
_BLANKS = (0x2800, 0xB2, 0xB3, 0xB9, *range(0x2460, 0x249C))  # ① would become a digit
_NUMBER = re.compile(r"[\d.]+(?:e\d+)?")
_TABLE: dict[int, str] = {
    **dict.fromkeys(_DASHES, "-"),
    **dict.fromkeys(_APOSTROPHES, "'"),
    **dict.fromkeys(_WAVES, "~"),
    **dict.fromkeys(_BLANKS, " "),
    ord("½"): ".5",
    ord("¼"): ".25",
    ord("¾"): ".75",
    0x66B: ".",  # Arabic's decimal point
}


def fold(text: str) -> str:
    """Lower case, half width, without accents and invisible characters, with one kind of blank.

    All dashes become "-". A table that is compared with folded text must be folded too.
    """
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", INVISIBLE.sub("", text.translate(_TABLE)))
        bare = "".join(c for c in parts if not unicodedata.combining(c))
        text = unicodedata.normalize("NFKC", bare).casefold()
    return " ".join(text.lower().split())


def read_table(text: str) -> dict[str, float]:
    """The words of a table, folded, each with the number that stands before its group of words."""
    table, value = dict[str, float](), 0.0
    for word in fold(text).split():
        if _NUMBER.fullmatch(word):
            value = float(word)
        else:
            table[word] = value
    return table
