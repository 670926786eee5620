"""A fuzz of the whole API: hostile requests for every route, and the checks of responses."""

import json
import random
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from service.app import API, PREFIXES, SERVICE
from service.docs.openapi.examples.calls import find_call
from service.errors import MOST_LISTED, Problem
from service.http.operations import Operation
from tests.faults.mutations import (
    HEADER_VALUES,
    HEADERS,
    METHODS,
    RAW,
    SEGMENTS,
    TEXTS,
    mutate_bytes,
    mutate_json,
    mutate_path,
)
from tests.harness.forging import forge
from tests.loopback.raw_http import RawResponse

MOST_ERROR_BYTES = 64 * 1024
MOST_BYTES = 8 * 1024 * 1024
FAULT_FIELDS = {"field", "code", "message"}
MOST_QUERY = 60_000
"""The HTTP parser refuses a longer target."""


def find_codes(kind: type[Problem] = Problem) -> Iterator[tuple[int, str]]:
    """The status and the code of every error of the API."""
    for each in kind.__subclasses__():
        yield each.status, each.code
        yield from find_codes(each)


CODES = dict(find_codes())


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes | None

    def encode(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: leadlog.test"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (self.body or b"")

    def to_curl(self, url: str) -> str:
        """A command line that sends the request again; printf writes the body."""
        words = ["curl", "-si", "--path-as-is", "-X", self.method, url + self.target]
        for name, value in self.headers:
            words += ["-H", f"{name}: {value}" if value else f"{name};"]
        command = shlex.join(words)
        if self.body is None:
            return command
        escaped = "".join(f"\\x{byte:02x}" if not 32 <= byte < 127 or byte in b"'\\%" else chr(byte)
                          for byte in self.body)  # fmt: skip
        return f"printf '{escaped}' | {command} --data-binary @-"


@dataclass(frozen=True)
class Known:
    """The existing ids and cursors, for use in requests."""

    key: str = field(repr=False)
    ids: dict[str, list[str]]
    """Ids by the first segment of a path, and by the names of other path parameters."""
    cursors: list[tuple[str, str, str]]
    """The path and query of a list, the name of its cursor parameter, and a real cursor."""


class Fuzzer:
    """Makes requests; the same seed and `known` give the same requests."""

    def __init__(self, seed: int, known: Known) -> None:
        self._rng = random.Random(seed)
        self._known = known
        self._operations = [(prefix, op) for op in API for prefix in PREFIXES]
        self._operations += [("", op) for op in SERVICE for _ in range(2)]

    def make(self) -> Request:
        """The next request."""
        rng = self._rng
        if rng.random() < 0.2:
            return self._forge_cursor()
        prefix, operation = rng.choice(self._operations)
        # Later requests do not find what an earlier request deleted.
        hits = 0.95 if operation.method != "DELETE" else 0.02
        path = prefix + self._fill(operation.path, hits)
        if rng.random() < 0.1:
            path = mutate_path(rng, path)
        method = operation.method if rng.random() < 0.93 else rng.choice(METHODS)
        headers = self._make_headers(operation)
        return Request(
            method, path + self._make_query(operation), headers, self._make_body(operation)
        )

    def _forge_cursor(self) -> Request:
        target, name, cursor = self._rng.choice(self._known.cursors)
        forged = quote(forge(self._rng, cursor), safe="=")
        return Request("GET", f"{target}&{name}={forged}", self._authorize(), None)

    def _fill(self, path: str, hits: float) -> str:
        noun = path.split("/")[1]

        def choose(match: re.Match[str]) -> str:
            name = noun if match[1] == "id" else match[1]
            known = self._known.ids.get(name, [])
            return self._rng.choice(known if self._rng.random() < hits else SEGMENTS)

        return re.sub(r"\{(\w+)\}", choose, path)

    def _authorize(self) -> list[tuple[str, str]]:
        return [("Authorization", f"Bearer {self._known.key}")]

    def _make_headers(self, operation: Operation) -> list[tuple[str, str]]:
        rng = self._rng
        headers = self._authorize() if rng.random() < 0.95 else []
        if operation.body is not None:
            headers.append(("Content-Type", "application/json"))
        if rng.random() < 0.15:
            headers.append(("Idempotency-Key", f"key-{rng.randrange(200)}"))
        while rng.random() < 0.2:
            headers.append((rng.choice(HEADERS), rng.choice(HEADER_VALUES)))
        return headers

    def _make_query(self, operation: Operation) -> str:
        rng = self._rng
        if rng.random() < 0.01:
            return "?" + rng.choice(["a", "", "limit=1", "%", "=", "[]=1"]) + "&a" * 5_000
        fields = msgspec.structs.fields(operation.query)
        known = [each.encode_name for each in fields]
        names = [*known * 4, "nosuch", "a[b]", "customFields[a]", "customFields[]", "[", "[]"]
        required = [each.encode_name for each in fields if each.required]
        pairs = [f"{name}={quote(rng.choice(TEXTS))}" for name in required]
        while rng.random() < (0.5 if known else 0.05):
            name = rng.choice(names)
            value = rng.choice(TEXTS) if name != "wait" else rng.choice(["0", "-1", "x", "31"])
            pairs.append(f"{quote(name, safe='[]')}={quote(value, errors='replace')}")
        if rng.random() < 0.03:
            pairs.append(
                rng.choice(["%ff=1", "a=%ff", "%", "&&", "=", "a=b=c", ";", "?", "limit=1"])
            )
        while len("&".join(pairs)) > MOST_QUERY:
            pairs.pop()
        return "?" + "&".join(pairs) if pairs else ""

    def _make_body(self, operation: Operation) -> bytes | None:
        rng = self._rng
        if operation.method in {"GET", "DELETE"}:
            return None if rng.random() < 0.98 else rng.choice(RAW)
        if rng.random() < 0.1:
            return rng.choice(RAW)
        if operation.body is None:
            return rng.choice([None, b"", b"{}"])
        whole: Any = find_call(operation).body
        if rng.random() < 0.4:
            whole = {name: whole[name] for name in whole if rng.random() < 0.6}
        if rng.random() < 0.75:
            whole = mutate_json(rng, whole)
        raw = json.dumps(whole, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")
        return mutate_bytes(rng, raw) if rng.random() < 0.15 else raw


def find_fault(request: Request, answer: RawResponse) -> str | None:
    """The fault of a response; None if it has none."""
    if "x-request-id" not in answer.headers:
        return "no X-Request-Id"
    if answer.status >= 500 and not _is_unready(request, answer):
        return f"status {answer.status}"
    if answer.status < 400:
        return None if len(answer.body) <= MOST_BYTES else f"{len(answer.body)} bytes"
    if request.method == "HEAD":
        return None
    if len(answer.body) > MOST_ERROR_BYTES:
        return f"an error of {len(answer.body)} bytes"
    return _find_fault_of_error(answer)


def _is_unready(request: Request, answer: RawResponse) -> bool:
    return answer.status == 503 and "/health/ready" in request.target


def _find_fault_of_error(answer: RawResponse) -> str | None:
    if answer.status == 503:
        return None
    try:
        error = answer.error
    except (ValueError, KeyError, TypeError):
        return "no error of ours"
    details = error.get("details", [])
    wrong = {
        f"code {error['code']}": error["code"] != CODES.get(answer.status),
        "no message": not error["message"],
        "no doc_url": not error["doc_url"],
        f"{len(details)} details": len(details) > MOST_LISTED,
        "400 without details": answer.status == 400 and not details,
        "a detail of another form": any(set(each) != FAULT_FIELDS for each in details),
    }
    return next((name for name, is_so in wrong.items() if is_so), None)
