"""Parses amounts as people write them: "$5k-$10k/mo", "€ 20.000", "50-100", 12000."""

import math
import re
from functools import lru_cache
from typing import Any

MAX_TEXT = 100
"""Only this many characters of a value are parsed; amounts typed into a form are shorter."""
MAX_AMOUNT = 1e12

_GROUPED = r"\d{1,3}(?:[.,' \u00a0\u202f\u2019]\d{3})+(?:[.,]\d{1,2})?(?!\d)"
_SCALE = (
    r"thousand|tausend|tsd|mille|mil|million\w*|millon\w*|mio|mln|mn|mm|billion\w*|bn|lakhs?|lacs?"
    r"|crores?|cr|тыс|млн|[kmb]|万|萬|億|亿|千|만|억"
)
_NUMBER = re.compile(rf"({_GROUPED}|\d+(?:[.,]\d+)?)\s*(?:({_SCALE})(?!\w))?", re.IGNORECASE)
_RANGE = re.compile(r"\s*(?:-|\u2013|\u2014|~|to|bis|à|a|до)\s*[^\w\s]?\s*", re.IGNORECASE)
_SCALES = {
    **dict.fromkeys(("k", "thousand", "tausend", "tsd", "mille", "mil", "тыс", "千"), 1e3),
    **dict.fromkeys(("m", "mm", "mn", "mio", "mln", "млн"), 1e6),
    **dict.fromkeys(("b", "bn"), 1e9),
    **dict.fromkeys(("lakh", "lakhs", "lac", "lacs"), 1e5),
    **dict.fromkeys(("crore", "crores", "cr"), 1e7),
    **dict.fromkeys(("万", "萬", "만"), 1e4),
    **dict.fromkeys(("億", "亿", "억"), 1e8),
}

# Periods per year; the first match is used.
_PERIODS = (
    (re.compile(r"\b(?:mo|mth|mtl|p\.?m\.?|month\w*|monat\w*|mois|mensuel\w*|mes|mensual\w*|mês|mese"
                r"|mensile|maand|мес\w*)\b|月|월", re.IGNORECASE), 12),
    (re.compile(r"\b(?:wk|week\w*|woche\w*|semaine|semana)\b|周|週", re.IGNORECASE), 52),
    (re.compile(r"\b(?:quarter\w*|quartal\w*|trimestre\w*)\b", re.IGNORECASE), 4),
)  # fmt: skip

# Units per US dollar, roughly: scores need no more. Other currencies count as dollars.
_CURRENCIES = (
    (re.compile(r"₩|\bkrw\b|원", re.IGNORECASE), 1_400),
    (re.compile(r"₫|\bvnd\b", re.IGNORECASE), 25_000),
    (re.compile(r"\bidr\b|\brp\b", re.IGNORECASE), 16_000),
    (re.compile(r"¥|\bjpy\b|円", re.IGNORECASE), 150),
    (re.compile(r"₹|\binr\b|\brs\b", re.IGNORECASE), 85),
    (re.compile(r"₽|\brub\b|руб", re.IGNORECASE), 90),  # noqa: RUF001  # Cyrillic is meant
    (re.compile(r"₺|\btry\b", re.IGNORECASE), 40),
    (re.compile(r"฿|\bthb\b", re.IGNORECASE), 33),
    (re.compile(r"\bmxn\b|\bczk\b|\bkč\b", re.IGNORECASE), 20),
    (re.compile(r"\b(?:sek|nok|dkk|kr)\b", re.IGNORECASE), 10),
    (re.compile(r"\b(?:cny|rmb|hkd)\b|元", re.IGNORECASE), 7),
    (re.compile(r"r\$|\bbrl\b|\bpln\b|zł", re.IGNORECASE), 5),
)


def parse_yearly_sum(value: Any) -> float | None:
    """A budget in US dollars a year, roughly; the lower end of a range; None without an amount."""
    number = parse_number(value)
    if number is None or not isinstance(value, str):
        return number
    return min(number * _find_factor(value[:MAX_TEXT]), MAX_AMOUNT)


def parse_number(value: Any) -> float | None:
    """The first number of a text (the lower end of a range), or the number itself, if above 0."""
    if isinstance(value, str):
        number = _parse_text(value[:MAX_TEXT])
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    else:
        number = min(value, MAX_AMOUNT)
    return float(number) if 0 < number <= MAX_AMOUNT else None


@lru_cache(maxsize=4096)  # forms often offer a few amounts
def _find_factor(text: str) -> float:
    """The factor that converts an amount to dollars a year."""
    times = next((count for pattern, count in _PERIODS if pattern.search(text)), 1)
    return times / next((rate for pattern, rate in _CURRENCIES if pattern.search(text)), 1)


@lru_cache(maxsize=4096)
def _parse_text(text: str) -> float:
    """The number with its scale (in "5-10k" also the 5 is in thousands); 0 without a number."""
    first = _NUMBER.search(text)
    if first is None:
        return 0
    number, scale = _read_digits(first[1]), first[2]
    dash = _RANGE.match(text, first.end())
    second = _NUMBER.match(text, dash.end()) if dash else None
    if scale is None and second is not None and number < _read_digits(second[1]):
        scale = second[2]
    return min(number * _read_scale(scale), MAX_AMOUNT)


def _read_digits(text: str) -> float:
    """Reads 20.000, 20,000, 20 000 and 20'000 as twenty thousand, 1.5 and 1,5 as one and a half."""
    if re.fullmatch(_GROUPED, text):
        whole = re.sub(r"[.,]\d{1,2}$", "", text)
        return float(re.sub(r"\D", "", whole))
    number = float(text.replace(",", "."))
    return number if math.isfinite(number) else MAX_AMOUNT


def _read_scale(scale: str | None) -> float:
    if scale is None:
        return 1
    scale = scale.lower()
    if scale.startswith("mill") and scale != "mille":
        return 1e6
    return 1e9 if scale.startswith("billion") else _SCALES[scale]
