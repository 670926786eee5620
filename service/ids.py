"""Ids of ours: a prefix and a ULID, so that ids made later sort later.

A ULID is 48 bits of milliseconds and 80 random bits in Crockford's base 32, as 10 and 16 digits.
The libraries for it take 6 µs, and creating a lead needs two. Of 256 bytes eight stand for each of
the 32 digits, so random digits are random bytes, translated; that takes less than half a µs.
"""

import itertools
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

Prefix = Literal["lead", "evt", "key", "req", "wh", "task", "conv", "msg"]
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DIGIT_OF_BYTE = (_DIGITS * 8).encode()
_TIME_SHIFTS = range(45, -1, -5)
_RANDOM_DIGITS = 16
_DRAWN_AT_ONCE = 200


def make_id(prefix: Prefix) -> str:
    """A new id such as `lead_01HQ3VXK9BWMN4F6T2P8R5GYSC`; without a dot, as webhook ids must be."""
    return f"{prefix}_{_encode_time(time.time_ns() // 1_000_000)}{next(_RANDOM)}"


def make_request_id() -> str:
    """As make_id("req"), for every request: digits of this process's own and a number.

    Two of them tell a caller how many requests came in between; no secret is made of that.
    """
    return f"{_PROCESS}{next(_NUMBERS):010X}"


@lru_cache(maxsize=8)  # many ids come in one millisecond
def _encode_time(milliseconds: int) -> str:
    return "".join([_DIGITS[milliseconds >> shift & 31] for shift in _TIME_SHIFTS])


def _draw() -> Iterator[str]:
    """Sixteen random digits, for many ids from one system call."""
    while True:
        drawn = os.urandom(_RANDOM_DIGITS * _DRAWN_AT_ONCE).translate(_DIGIT_OF_BYTE).decode()
        for place in range(0, len(drawn), _RANDOM_DIGITS):
            yield drawn[place : place + _RANDOM_DIGITS]


_RANDOM = _draw()
_NUMBERS = itertools.count(1)
_PROCESS = make_id("req")[:20]  # all of its time and 30 random bits
