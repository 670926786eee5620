"""Ids: a prefix and a ULID, so that they sort by time of creation.

A ULID is 48 bits of milliseconds and 80 random bits in Crockford's base 32, as 10 and 16 digits.
Libraries take 6 µs for one, and creating a lead needs two. Here random bytes are translated to
digits (eight of the 256 byte values map to each of the 32 digits), in less than half a µs.
"""

import os
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

Prefix = Literal["lead", "evt", "key", "req", "wh", "rpl", "task", "conv", "msg"]
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DIGIT_OF_BYTE = (_DIGITS * 8).encode()
_TIME_SHIFTS = range(45, -1, -5)
_RANDOM_DIGITS = 16
_IDS_PER_DRAW = 200


def make_id(prefix: Prefix) -> str:
    """A new id such as `lead_01HQ3VXK9BWMN4F6T2P8R5GYSC`. Webhook ids must not have a dot."""
    return f"{prefix}_{_encode_time(time.time_ns() // 1_000_000)}{next(_RANDOM)}"


def make_request_id() -> str:
    """As make_id("req"), but cheaper: its time is that of the start of the process.

    It is not a counter, which would tell each tenant how many requests all tenants send.
    """
    return f"{_PROCESS}{next(_RANDOM)}"


@lru_cache(maxsize=8)  # many ids are made in one millisecond
def _encode_time(milliseconds: int) -> str:
    return "".join([_DIGITS[milliseconds >> shift & 31] for shift in _TIME_SHIFTS])


def _draw_digits() -> Iterator[str]:
    """Yield sixteen random digits at a time, with a system call for many ids."""
    while True:
        digits = os.urandom(_RANDOM_DIGITS * _IDS_PER_DRAW).translate(_DIGIT_OF_BYTE).decode()
        for start in range(0, len(digits), _RANDOM_DIGITS):
            yield digits[start : start + _RANDOM_DIGITS]


_RANDOM = _draw_digits()
_PROCESS = make_id("req")[:-_RANDOM_DIGITS]
