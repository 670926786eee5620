"""Classifies job titles by seniority, in many languages."""

import re
from functools import lru_cache

from workers.scoring.folding import UNSPACED, fold
from workers.scoring.title_words import WORDS, Seniority

_LETTER = rf"[^\W{UNSPACED}]"
_GENDER = re.compile(r"(?<=\w\w)(?:[*:_/·.]-?|\()(?:in|innen|e|a|fe|t?rice)\)?(?!\w)")
"""The second gender: Leiter/-in, Leiter*in, gérant(e), directeur·rice."""
_SINGLE_LETTERS = re.compile(r"(?<!\w)[a-zß-ԯ](?:[. ・·]+[a-zß-ԯ](?!\w))+")
_SPACED_OUT = re.compile(r"(?<=[\u3040-\u9fff]) (?=[\u3040-\u9fff])")
_HYPHENS = re.compile("[ _-]+")
_OTHERS = re.compile(
    r"\b(?:\w+'s\b|office of (?:the )?[^,;|/&(]*|[前元](?:社長|代表\w*|会長|取締役|ceo)"
    r"|(?:former(?:ly)?|ex(?! officio)|retired|(?:immediate )?past|ehemalige?[rs]?"
    r"|ancien(?:ne)?|бывш\w+|экс) (?:(?!now |current|and )[^,;|/&()])*)"
)
"""Titles of other persons or of earlier times: CEO's driver, office of the CEO, ex-CEO."""


def _simplify(title: str) -> str:
    """Folded, with blanks for hyphens; "C. E. O." is ceo, "Leiter*in" leiter, "社 長" 社長."""
    plain = fold(title)
    if plain.isalpha():
        return plain
    plain = _HYPHENS.sub(" ", _GENDER.sub("", plain))
    plain = _SINGLE_LETTERS.sub(lambda match: re.sub(r"\W", "", match[0]), plain)
    return _SPACED_OUT.sub("", plain).replace(". ", " ")


def _compile_parted(words: str) -> re.Pattern[str]:
    alternatives = "|".join(word.strip() for word in fold(words).partition("/")[0].split(", "))
    return re.compile(rf"(?<!{_LETTER})(?:{alternatives})(?!{_LETTER})")


def _compile_anywhere(words: str) -> re.Pattern[str]:
    return re.compile("|".join(word.strip() for word in fold(words).partition("/")[2].split(", ")))


_CLASSES = tuple(
    (seniority, _compile_parted(words), _compile_anywhere(words))
    for seniority, words in WORDS.items()
)


@lru_cache(maxsize=4096)
def find_seniority(title: str) -> Seniority:
    """The class of a title; an unknown title is staff."""
    plain = _OTHERS.sub("", _simplify(title))
    is_alphabetic = max(plain, default="") < "\u0590"  # Latin, Greek or Cyrillic
    for seniority, parted, anywhere in _CLASSES:
        if parted.search(plain) or (not is_alphabetic and anywhere.search(plain)):
            return seniority
    return "staff"
