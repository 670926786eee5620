"""Numbers of several tokens: digits, numerals and scales that add up or multiply."""

from collections.abc import Sequence
from typing import NamedTuple

from workers.scoring.amount_tokens import Token
from workers.scoring.numerals import MAX_AMOUNT, MILLION, THOUSAND, read_digits

_ARTICLES = ("a", "an")


class Group(NamedTuple):
    """The tokens `start` to `end` as one number; `lead` is the number before its last scales."""

    value: float
    lead: float
    start: int
    end: int


class _Sum:
    """Adds up numbers with descending scales: 3 crore 50 lakh."""

    def __init__(self) -> None:
        self.number: float | None = None
        """The last number, which has no scale yet."""
        self.lead = 0.0
        self._parts: list[tuple[float, float]] = []  # scales and values

    def set_number(self, number: float) -> None:
        self.number = self.lead = number

    def multiply(self, scale: float) -> None:
        """Applies a scale to the number and to the parts of smaller scales before it: 2千500万."""
        if not self._parts or self.number is not None:
            self.lead = 1 if self.number is None else self.number
        values = [] if self.number is None else [self.number]
        while self._parts and self._parts[-1][0] < scale:
            values.append(self._parts.pop()[1])
        self._parts.append((scale, scale * (sum(values) if values else 1)))
        self.number = None

    def compute(self) -> float:
        return sum(value for _, value in self._parts) + (self.number or 0)


def read_group(tokens: Sequence[Token], start: int) -> Group | None:
    """The number that starts at a token.

    1億2000万, 3 crore 50 lakh, 五十万, 1.5万亿, 2 hundred thousand, half a million.
    """
    total, at = _Sum(), start
    while _add(total, tokens, at, is_first=at == start):
        at += 1
    return Group(total.compute(), total.lead, start, at) if at > start else None


def _add(total: _Sum, tokens: Sequence[Token], at: int, *, is_first: bool) -> bool:
    """Adds a token to the number before it, if it belongs to it."""
    token, before = tokens[at], tokens[at - 1]
    if token.kind == "number":
        if not is_first and (total.number is not None or not _continues(tokens, at)):
            return False
        total.set_number(_read_number(token, tokens[at + 1]))
    elif token.kind == "numeral":
        if not is_first and not _continues_numeral(total, before, token):
            return False
        total.set_number(_add_numeral(total.number, token))
    elif token.kind == "scale":
        if is_first and not (
            token.is_unspaced or before.text in _ARTICLES or _is_counted_once(token, tokens[at + 1])
        ):
            return False
        total.multiply(token.value)
    else:
        return token.text in _ARTICLES and before.text == "half" and not is_first
    return True


def _is_counted_once(scale: Token, after: Token) -> bool:
    """Hebrew and Arabic need no article: מיליון שקל is a million."""
    return after.kind == "currency" and "\u0590" <= scale.text[0] < "\u0900"


def _read_number(token: Token, scale: Token) -> float:
    if (
        "." in token.text
        and scale.kind == "scale"
        and (scale.is_unspaced or scale.value >= MILLION)
    ):
        return read_digits(token.text, point=True) or 0
    return token.value


def _continues(tokens: Sequence[Token], at: int) -> bool:
    """A number after a scale adds to it (1億2000万, 5万5000) if it is smaller, and no count."""
    before, number, after = tokens[at - 1], tokens[at], tokens[at + 1]
    if number.value >= before.value or after.kind in ("time", "people", "part"):
        return False
    if after.kind == "scale":
        is_multiplied_too = before.value <= THOUSAND and before.is_beside(number)
        return after.value < before.value or (before.is_unspaced and is_multiplied_too)
    return before.is_unspaced and (before.is_beside(number) or after.kind == "currency")


def _continues_numeral(total: _Sum, before: Token, token: Token) -> bool:
    if token.is_unspaced and not token.is_beside(before):
        return False
    return total.number is None or (
        before.kind == "numeral" and token.is_unspaced == before.is_unspaced
    )


def _add_numeral(number: float | None, token: Token) -> float:
    """Numerals are digits in scripts without blanks (二五 is 25), words otherwise (twenty five)."""
    if number is None:
        return token.value
    return min(number * 10 + token.value, MAX_AMOUNT) if token.is_unspaced else number + token.value
