"""Finds the amount in a text as people write it: "$5k-$10k/mo", "€ 20.000", "1億2000万円".

amount_tokens.py splits a text into tokens, amount_grammar.py reads them. No library does: the best,
price-parser, ignores signs and scales, and reads "Q3 2026: $80k" as 32026.

Of several amounts a budget is the first with a currency, else the first of 100 or more; a team size
is the first of people. Arguable texts are read so:

- Of a range the lower end counts; "0-10k" and "up to 10k" are both 10k.
- A bare 2010-2049 is a year, and no amount; so are dates, quarters, versions, shares and phones.
- A minus directly before the number is negative ("-5000"), and brackets around the whole text too
  ("(5000)"): no amount. A dash with a blank after it ("- 5000") marks an item of a list.
- "24 months" is a duration or a deadline, which changes nothing; "per month" is a rate.
- "$" and "¥" (yen) give way to another currency in the text. "10% of 1M" is 100,000.
- A rate per day counts for every day of the year; one per hour as it is.
- "mil" is a thousand (Spanish, Portuguese), "kk" a million; "T" is a thousand before a currency.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from workers.scoring.amount_grammar import Amount, Reading, prefer, read_tokens
from workers.scoring.amount_tokens import Token, tokenize
from workers.scoring.currencies import AFTER_ONLY
from workers.scoring.folding import fold
from workers.scoring.numerals import MAX_AMOUNT

MAX_TEXT = 100
"""Only this many characters of a value are parsed; amounts typed into a form are shorter."""
_SMALL = 100


def parse_yearly_sum(value: Any, unit: str = "") -> float | None:
    """A budget in US dollars a year, roughly; the lower end of a range; None without an amount.

    A unit, such as "monthly" or "eur", counts where the value has none of its own.
    """
    if not isinstance(value, str):
        number = _check(value)
        one = _find_budget(f"{unit}: 1") if unit and number else None
        return _check(number * one) if number and one else number
    amount = _find_budget(value[:MAX_TEXT])
    return _find_budget(f"{unit}: {value[:MAX_TEXT]}") if unit and amount else amount


def parse_number(value: Any) -> float | None:
    """A number of people (the lower end of a range), or the number itself, if above 0."""
    return _find_number(value[:MAX_TEXT]) if isinstance(value, str) else _check(value)


def _check(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = min(value, MAX_AMOUNT)
    return float(number) if number > 0 else None


@lru_cache(maxsize=4096)  # forms often offer a few amounts
def _find_budget(text: str) -> float | None:
    tokens = tokenize(fold(text))
    reading = read_tokens(tokens)
    amounts = [amount for amount in reading.amounts if not amount.is_people]
    if not amounts:
        return None
    amount = min(amounts, key=lambda each: (not each.currency, abs(each.value) < _SMALL))
    return _check(amount.value * _find_times(reading, amount) / _find_rate(tokens, amount))


@lru_cache(maxsize=4096)
def _find_number(text: str) -> float | None:
    if text.isdecimal() and len(text) == len("2026"):  # here it is no year
        return _check(float(text))
    amounts = read_tokens(tokenize(fold(text))).amounts
    if not amounts:
        return None
    best = min(amounts, key=lambda each: (not each.is_people, each.currency is not None))
    return _check(best.value)


def _find_rate(tokens: Sequence[Token], amount: Amount) -> float:
    """Units per dollar, by the currency of the amount, else by one elsewhere in the text."""
    currency = amount.currency
    if currency is None:
        for token in tokens:
            if token.kind == "currency" and token.text not in AFTER_ONLY:
                currency = prefer(currency, token)
    return currency.value if currency else 1


def _find_times(reading: Reading, amount: Amount) -> float:
    """How often a year an amount is due: by its own rate, which mostly follows it, or another."""
    if not reading.rates:
        return 1
    starts = [each.start for each in reading.amounts if each.start > amount.start]
    after = [
        (at, times)
        for at, times in reading.rates
        if at == amount.end or (at > amount.end and at + 1 not in starts)  # else of the next
    ]
    own = [times for at, times in after if not starts or at < starts[0]]
    before = [times for at, times in reading.rates if at < amount.start]
    return next(iter((*own, *reversed(before), *(times for _, times in after))), 1)
