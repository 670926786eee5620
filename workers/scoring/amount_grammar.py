"""The grammar of amounts: which tokens make up a number, its currency, its range and its rate."""

from collections.abc import Sequence
from typing import NamedTuple

from workers.scoring.amount_tokens import Token
from workers.scoring.currencies import AFTER_ONLY, WEAK
from workers.scoring.number_groups import Group, read_group
from workers.scoring.numerals import THOUSAND
from workers.scoring.periods import DEADLINES, MONTH_NAMES, YEAR_MARKS

_MAX_DAY = 31
_MAX_TIMES = 366
"""A larger number before a noun of time is an amount: "5000 month"."""
_YEARS = range(2010, 2050)
_EARLIER_YEARS = range(1900, 2010)
_OF = frozenset(("of", "von", "vom", "de", "des", "del", "di", "da", "от", "の", "的"))


class Amount(NamedTuple):
    """The tokens `start` to `end`: a number, or the lower of a range, with its currency."""

    value: float
    currency: Token | None
    start: int
    end: int
    is_people: bool = False
    is_plain: bool = False
    """Without currency and scale."""


class Reading(NamedTuple):
    """What a text says: its amounts, and its rates per year by position."""

    amounts: list[Amount]
    rates: list[tuple[int, float]]


def read_tokens(tokens: Sequence[Token]) -> Reading:
    """Reads all amounts and rates, in their order. A negative amount has a negative value."""
    reading = Reading([], [])
    at, floor, share = 0, 0, 1.0
    while tokens[at].kind != "end":
        group = read_group(tokens, at)
        if group is None:
            if tokens[at].kind in ("period", "time") and tokens[at - 1].text not in DEADLINES:
                reading.rates.append((at, tokens[at].value))
            at += 1
            continue
        amount = _read_amount(tokens, group, floor)
        at = amount.end
        if not _is_number(tokens, group) or _is_date(tokens, amount):
            at += tokens[at].kind == "time"
            continue
        floor = at
        if _is_duration(tokens, amount):
            reading.rates.extend([(at, tokens[at].value)] if amount.value == 1 else [])
            at += 1
        elif tokens[at].kind == "part":
            share = _read_share(tokens, amount)
            at += 1
        else:
            reading.amounts.append(amount if share == 1 else _multiply(amount, share))
            share = 1.0
    return reading


def _is_number(tokens: Sequence[Token], group: Group) -> bool:
    """Numerals are letters of other words too: they need a scale, a unit, or to be alone.

    A scale alone before a currency may be a label: 予算(万円): 50.
    """
    if tokens[group.start].kind == "number":
        return True
    inside, after = tokens[group.start : group.end], tokens[group.end]
    if len(inside) == 1 and inside[0].kind == "scale" and after.kind == "currency":
        following = tokens[group.end + 1 : group.end + 4]
        return all(token.kind != "number" for token in following)
    is_alone = tokens[group.start - 1].kind == after.kind == "end"
    has_scale = any(token.kind == "scale" and token.value >= THOUSAND for token in inside)
    return (
        is_alone
        or after.kind in ("currency", "people", "time")
        or (has_scale and (len(inside) > 1 or not inside[0].is_unspaced))
    )


def _read_amount(tokens: Sequence[Token], group: Group, floor: int) -> Amount:
    """The amount of a group; `floor` is the end of the amount before it."""
    currency, factor = _read_prefix(tokens, group, floor)
    currency, end = _read_currencies(tokens, group.end, currency)
    if currency and currency.text == "rp" and tokens[group.end - 1].text == "m":
        factor *= THOUSAND  # Indonesian miliar
    value, is_plain = group.value, group.value == group.lead
    if tokens[end].kind in ("range", "dash") and not _is_year(tokens, group.start, group.end):
        upper_currency, start = _read_currencies(tokens, end + 1, currency)
        upper = read_group(tokens, start)
        if upper and _is_number(tokens, upper) and not _is_year(tokens, upper.start, upper.end):
            value = _share_scale(group, upper) or upper.value
            is_plain = is_plain and upper.value == upper.lead
            currency, end = _read_currencies(tokens, upper.end, upper_currency)
    is_people = tokens[end].kind == "people"
    return Amount(
        value * factor, currency, group.start, end, is_people, is_plain and currency is None
    )


def _share_scale(first: Group, second: Group) -> float:
    """The first number of a range; in "5-10k" it is in thousands too."""
    if first.value == first.lead < second.lead:
        return first.value * second.value / second.lead
    return first.value


def _read_prefix(tokens: Sequence[Token], group: Group, floor: int) -> tuple[Token | None, float]:
    """The currency before a number, and the factor of a scale (k€ 50) and a minus."""
    currency, factor, at = None, 1.0, group.start - 1
    while at >= floor:
        token = tokens[at]
        if token.kind == "currency" and token.text not in AFTER_ONLY:
            currency = prefer(token, currency)
        elif token.kind == "scale" and (currency or tokens[at - 1].kind == "currency"):
            factor *= token.value
        elif _is_minus(tokens, at, group):
            factor = -abs(factor)
        elif token.kind not in ("open", "close", "colon"):
            break
        at -= 1
    return currency, factor


def _read_currencies(
    tokens: Sequence[Token], at: int, known: Token | None
) -> tuple[Token | None, int]:
    """The best of a known currency and those from `at`, and where they end."""
    while tokens[at].kind == "currency" and not _belongs_to_next(tokens, at):
        known = prefer(known, tokens[at])
        at += 1
    return known, at


def _belongs_to_next(tokens: Sequence[Token], at: int) -> bool:
    """The currency touches the number after it, and not the one before it: 2026 $80k."""
    before, currency, after = tokens[at - 1], tokens[at], tokens[at + 1]
    if before.kind in ("range", "dash"):
        return False
    return after.kind == "number" and currency.is_beside(after) > currency.is_beside(before)


def _is_minus(tokens: Sequence[Token], at: int, group: Group) -> bool:
    """A dash directly before a number or currency, not directly after a word; or brackets."""
    before, token, after = tokens[at - 1], tokens[at], tokens[at + 1]
    if token.kind == "dash":
        is_joint = before.is_beside(token) and before.text[-1].isalnum()
        return token.is_beside(after) and not is_joint
    return token.kind == "minus" or (token.kind == "open" and _is_in_brackets(tokens, group))


def _is_in_brackets(tokens: Sequence[Token], group: Group) -> bool:
    """Bookkeepers write (5000) for -5000."""
    kinds = [token.kind for token in tokens if token.kind not in ("currency", "end")]
    return kinds == ["open", *(token.kind for token in tokens[group.start : group.end]), "close"]


def _is_date(tokens: Sequence[Token], amount: Amount) -> bool:
    if not amount.is_plain or amount.end != amount.start + 1:
        return False
    before, after = tokens[amount.start - 1].text, tokens[amount.end].text
    is_day = amount.value <= _MAX_DAY and (before in MONTH_NAMES or after in MONTH_NAMES)
    return is_day or before in ("第", "#") or _is_year(tokens, amount.start, amount.end)


def _is_year(tokens: Sequence[Token], start: int, end: int) -> bool:
    year, before, after = tokens[start], tokens[start - 1], tokens[end]
    if end != start + 1 or len(year.text) != len("2026") or not year.text.isdecimal():
        return False
    if after.kind == "people" or before.kind == "currency":
        return False
    if after.kind == "currency" and not _belongs_to_next(tokens, end):
        return False
    return year.value in _YEARS or (year.value in _EARLIER_YEARS and before.text in YEAR_MARKS)


def _is_duration(tokens: Sequence[Token], amount: Amount) -> bool:
    return tokens[amount.end].kind == "time" and amount.is_plain and amount.value <= _MAX_TIMES


def _read_share(tokens: Sequence[Token], amount: Amount) -> float:
    """The factor for the next amount, as in "10% of 1M"."""
    is_share = tokens[amount.end].text.startswith(("%", "p"))
    return amount.value / 100 if is_share and tokens[amount.end + 1].text in _OF else 1


def _multiply(amount: Amount, factor: float) -> Amount:
    return amount._replace(value=amount.value * factor)


def prefer(first: Token | None, second: Token | None) -> Token | None:
    """The first of two currencies, unless only the second is definite: not "$"."""
    if first is None or (second is not None and first.text in WEAK and second.text not in WEAK):
        return second
    return first
