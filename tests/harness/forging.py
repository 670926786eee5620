"""Forged cursors: made from a real cursor, with values that no list contains."""

import base64
import json
import random
from collections.abc import Callable
from typing import Any

EXTREMES: list[Any] = [
    0, -1, 1, 2**15, 2**31, 2**53, 2**62, 2**62 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30,
    -(10**30), 0.5, 1e308, -0.0, True, None, "", "\0", "a\0b", "x" * 101, "x" * 300, "~", "-1", "٣",
    "nan", "\U0001f600", "\ufeff", [], [[]], {}, {"a": 1}, 10**15, 253402214400000000,
    253402300800000000, -62135510400000000, -62135596800000000, -62135596800000001,
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "2026-01-01T00:00:00Z",
    "2026-02-30", "infinity", "-infinity",
]  # fmt: skip
LITERALS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e30", "1.0", "-0", "01", "[", '"']
WHOLE = [
    b"", b"[]", b"null", b"0", b"{}", b"[[[[]]]]", b"[" * 200, b"\xff\xfe", b"1.9.9",
    b"0001-01-01T00:00:00+23:59 1", b"9999-12-31T23:59:59-23:59 1",
    b"2026-01-01T00:00:00+00:00 99999999999999999999", b"1.9223372036854775807.0",
]  # fmt: skip


def unpack(cursor: str) -> bytes:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def pack(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forge(rng: random.Random, cursor: str) -> str:
    """A forged cursor, most often with the right digest before wrong values."""
    raw = unpack(cursor)
    digest, rest = raw[:8], raw[8:]
    return rng.choice(WAYS if rest.startswith(b"[") else WAYS_OF_SEALED)(rng, digest, rest)


def _replace_parts(rng: random.Random, digest: bytes, rest: bytes) -> str:
    parts = json.loads(rest)
    for _ in range(rng.choice([1, 1, 1, 2, len(parts)])):
        parts[rng.randrange(len(parts))] = rng.choice(EXTREMES)
    return pack(digest + json.dumps(parts, ensure_ascii=rng.random() < 0.5).encode())


def _replace_by_literal(rng: random.Random, digest: bytes, rest: bytes) -> str:
    parts = [json.dumps(part) for part in json.loads(rest)]
    parts[rng.randrange(len(parts))] = rng.choice(LITERALS)
    return pack(digest + f"[{','.join(parts)}]".encode())


def _shift_a_number(rng: random.Random, digest: bytes, rest: bytes) -> str:
    parts = json.loads(rest)
    for place, part in enumerate(parts):
        if isinstance(part, int):
            parts[place] = part + rng.choice([-1, 1]) * rng.choice([1, 10**6, 10**15, 10**17])
    return pack(digest + json.dumps(parts).encode())


def _change_length(rng: random.Random, digest: bytes, rest: bytes) -> str:
    parts = json.loads(rest)
    parts = parts[:-1] if rng.random() < 0.5 else [*parts, rng.choice(EXTREMES)]
    return pack(digest + json.dumps(parts).encode())


def _damage(rng: random.Random, digest: bytes, rest: bytes) -> str:
    raw = bytearray(digest + rest)
    for _ in range(rng.randint(1, 4)):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return pack(bytes(raw[: rng.randint(0, len(raw))] if rng.random() < 0.3 else raw))


def _replace_whole(rng: random.Random, digest: bytes, _: bytes) -> str:
    whole = rng.choice(WHOLE)
    return pack(digest + whole if rng.random() < 0.5 else whole)


def _no_base64(rng: random.Random, digest: bytes, rest: bytes) -> str:
    text = pack(digest + rest)
    return rng.choice([text[:-1], text + "A", text + "=", text * 9, "!", "%", "é", " ", text[::-1]])


WAYS: list[Callable[[random.Random, bytes, bytes], str]] = [
    _replace_parts, _replace_parts, _replace_parts, _replace_by_literal, _shift_a_number,
    _change_length, _damage, _replace_whole, _no_base64,
]  # fmt: skip
WAYS_OF_SEALED = [_damage, _replace_whole, _no_base64]
