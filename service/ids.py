"""Ids of ours: a prefix and a ULID, so that ids made later sort later.

A ULID is 48 bits of milliseconds and 80 random bits in Crockford's base 32. The libraries for it
take 6 µs, and creating a lead needs two; a table of all pairs of digits takes less than 1 µs.
"""

import itertools
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

Prefix = Literal["lead", "evt", "key", "req", "wh", "task", "conv", "msg"]
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_TIME_BITS, _RANDOM_BITS, _PAIR_BITS = 50, 80, 10
_DRAWN_AT_ONCE = 200


def make_id(prefix: Prefix) -> str:
    """A new id such as `lead_01HQ3VXK9BWMN4F6T2P8R5GYSC`; without a dot, as webhook ids must be."""
    return f"{prefix}_{encode_ulid(time.time_ns() // 1_000_000, next(_RANDOM))}"


def make_request_id() -> str:
    """As make_id("req"), for every request: digits of this process's own and a number."""
    return f"{_PROCESS}{next(_NUMBERS):010X}"


def encode_ulid(milliseconds: int, random_bits: int) -> str:
    """26 digits: 10 of Unix milliseconds, 16 of 80 random bits."""
    return _encode_time(milliseconds) + _encode(random_bits, _RANDOM_BITS)


def _encode(value: int, bits: int) -> str:
    shifts = range(bits - _PAIR_BITS, -1, -_PAIR_BITS)
    return "".join([_PAIRS[value >> shift & 1023] for shift in shifts])


@lru_cache(maxsize=8)  # many ids come in one millisecond
def _encode_time(milliseconds: int) -> str:
    return _encode(milliseconds, _TIME_BITS)


def _draw() -> Iterator[int]:
    """Random numbers of 80 bits, many from one system call."""
    while True:
        drawn = os.urandom(10 * _DRAWN_AT_ONCE)
        for place in range(0, len(drawn), 10):
            yield int.from_bytes(drawn[place : place + 10], "big")


_RANDOM = _draw()
_NUMBERS = itertools.count(1)
_PROCESS = make_id("req")[:20]  # all of its time and 30 random bits
