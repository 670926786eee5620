"""Hostile values, and functions that put them into valid JSON, bytes and paths."""

import json
import random
from copy import deepcopy
from typing import Any

from tests.harness.forging import EXTREMES

TEXTS = [
    "", " ", "\0", "a\0", "\x01", "x", "x" * 65, "x" * 201, "x" * 5_000, "x" * 30_000, "é",
    "ü" * 100,
    "\U0001f600", "\u202e", "\ufeff", "\u0301", "\\", "'", '"', "%", "%%", "%s", "_", "{}", "{id}",
    "null",
    "true", "nan", "-1", "0", "1e999", "1" * 50, "٣٤", "0x10", "2026-01-01", "2026-13-45",
    "0001-01-01",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.9999999", "9999-12-31T23:59:59-23:59",
    "2026-W01-1", "20260101", "24:00", "2026-01-01T24:00", "2026-01-01T00:00:60Z", "latest",
    "replay",
    "skip", "new", "lead.created", "a@b.co", "a@" + "b." * 120 + "co", "a@xn--.com",
    "https://8.8.8.8/x",
    "https://[::1]/", "https://8.8.8.8:99999/", "http://0/", "https://\u2460\u2461.1.1/", "//",
    "+1 555 014 2000",
    "'; DROP TABLE lead; --", "$1", "a & b | !c", "a:*", "(", "<->", "\n", "\r\n", "\t",
]  # fmt: skip
VALUES: list[Any] = [*EXTREMES, *TEXTS, [0] * 3_000, ["x"] * 60, {f"k{n}": n for n in range(150)}]
RAW = [
    b"", b"{", b"}", b"[]", b"null", b'"x"', b"0", b"garbage{", b"{} {}", b"\xef\xbb\xbf{}",
    b"\xff\xfe",
    b"[" * 150, b'{"a":' * 150, b"[" * 5_000, b'{"a":' * 1_200 + b"1" + b"}" * 1_200,
    b"\x1f\x8b\x08",
    b'{"a":1e999}', b'{"a":NaN}', b'{"a":"\\ud800"}', b'{"a":1,"a":2}', b'{"\\u0000":1}',
    b" " * 1_000,
    b'{"email":"a@b.co","tags":[' + b"0," * 60_000 + b"0]}",
    b"{" + b",".join(b'"k%d":0' % n for n in range(12_000)) + b"}",
    b'{"email":"a@b.co","customFields":{"a":' + b"[" * 990 + b"]" * 990 + b"}}",
    b'{"email":"a@b.co","customFields":{"a":[' + b"0," * 60_000 + b"0]}}",
]  # fmt: skip
SEGMENTS = [
    "{}", "%7B%7D", "%7bid%7d", "%00", "%2F", "%2e%2e", "..", ".", "", "%", "%zz", "%ff%fe",
    "%F0%9F%98%80",
    "%C3%A9", "a" * 101, "a" * 20_000, "%20", "+", "null", "-1", "0", "search", "score", "lead_%00",
    "dlv_0", "dlv_9223372036854775807", "dlv_9223372036854775808", "dlv_-1", "dlv_%D9%A3",
    "dlv_" + "9" * 19, "dlv_" + "0" * 32, "dlv_" + "F" * 32, "dlv_" + "f" * 33,
    "rpl_x", "*", "~", "%27", "%22", "a;b", "a,b", "%0d%0a", "%E2%80%AE",
]  # fmt: skip
HEADER_VALUES = [
    "", "*", '"', '""', '"1"', 'W/"1"', '"1", "2"', '"0", , "1"', ",,,", '"1.1"',
    '"' + "9" * 19 + '"',
    '"' + "9" * 30 + '"', '"1"' + ', "1"' * 2_000, "x" * 5_000, "\xe9", "Bearer", "Bearer x",
    "bearer  x",
    "Basic eDp5", "Bearer sk_live_" + "a" * 32, "application/json", "text/plain",
    "application/json;charset=x",
    "multipart/form-data", ";", "gzip", "identity", "-1", "0", "1", "a b", "%00", "\t",
]  # fmt: skip
HEADERS = [
    "If-Match", "If-None-Match", "Idempotency-Key", "Authorization", "Content-Type",
    "Content-Encoding",
    "X-Request-Id", "Accept", "Range", "If-Modified-Since", "Origin", "X-Forwarded-For", "Cookie",
    "TE",
]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def mutate_json(rng: random.Random, value: Any) -> Any:
    """A copy with one to three random changes: a value replaced, removed, repeated or added."""
    whole = json.loads(json.dumps(value))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        whole = _mutate_once(rng, whole)
    return whole


def _choose_value(rng: random.Random) -> Any:
    """A copy of a hostile value; a copy because it may be mutated later."""
    return deepcopy(rng.choice(VALUES))


def _mutate_once(rng: random.Random, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value or rng.random() < 0.05:
        return _choose_value(rng)
    place = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    match rng.randrange(5):
        case 0:
            del value[place]
        case 1:
            value[place] = _mutate_once(rng, value[place])
        case 2 if isinstance(value, dict):
            value[rng.choice(TEXTS)] = _choose_value(rng)
        case 3 if isinstance(value, list):
            value *= rng.choice([2, 20, 200]) if len(value) < 100 else 2
        case _:
            value[place] = _choose_value(rng)
    return value


def mutate_bytes(rng: random.Random, raw: bytes) -> bytes:
    """A copy with some bytes changed, removed or repeated."""
    changed = bytearray(raw or b"{}")
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(3):
            case 0:
                changed[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[place : place + rng.randint(1, 8)]
            case _:
                changed[place:place] = changed[max(0, place - 8) : place]
    return bytes(changed)


def mutate_path(rng: random.Random, path: str) -> str:
    """The path with a segment replaced, removed, added or percent-encoded."""
    segments = path.split("/")[1:]
    place = rng.randrange(len(segments))
    match rng.randrange(5):
        case 0:
            segments.insert(place, rng.choice(SEGMENTS))
        case 1:
            del segments[place]
        case 2:
            segments[place] = "".join(
                f"%{ord(c):02x}" if rng.random() < 0.5 else c for c in segments[place]
            )
        case _:
            segments[place] = rng.choice(SEGMENTS)
    return "/" + "/".join(segments)
