"""The header fields of a request by name, and the checks that RFC 9112 demands of them.

Fields that a proxy and this server could read differently are refused, not corrected: a second
field that frames or authorises the request, or a Transfer-Encoding other than `chunked`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from service.errors import Fault, InvalidRequest

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names in lower case, in the order of their arrival."""
Fields: TypeAlias = Mapping[bytes, bytes]
"""Values by name; the values of several lines are joined (RFC 9110, 5.3)."""
MAX_HEADERS = 256
SINGLE = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"transfer-encoding",
    }
)
"""Fields with one value: a second line is refused."""
NO_HOST = "An HTTP/1.1 request needs a Host header."
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)


def refuse(message: str, field: str = "", code: str = "too_long") -> InvalidRequest:
    """A 400 that names a header, or none."""
    return InvalidRequest(message, details=[Fault(field, code, message)])


def collect_fields(headers: Headers) -> dict[bytes, bytes]:
    """The fields by name. Of a SINGLE field only the first line counts."""
    fields = dict(headers)
    if len(fields) == len(headers):
        return fields
    fields = {}
    for name, value in headers:
        known = fields.get(name)
        if known is None:
            fields[name] = value
        elif name not in SINGLE:
            fields[name] = known + (b"; " if name == b"cookie" else b", ") + value
    return fields


def check_single(headers: Headers) -> None:
    """Raises InvalidRequest if a SINGLE field has several lines."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in SINGLE:
            title = name.decode("ascii").title()
            raise refuse(f"The header {title} may come only once.", title, "duplicate")
        seen.add(name)


def check_host(host: bytes | None) -> None:
    """Raises InvalidRequest if Host is missing or invalid (RFC 9112, 3.2)."""
    if host is None:
        raise refuse(NO_HOST, "Host", "required")
    if not _HOST.fullmatch(host):
        message = "The Host header is not a host with or without a port."
        raise refuse(message, "Host", "invalid_value")


def check_encoding(coding: bytes, version: str) -> None:
    """Raises InvalidRequest unless Transfer-Encoding is `chunked` in HTTP/1.1 (RFC 9112, 6.1)."""
    if coding.lower() != b"chunked":
        message = "The only Transfer-Encoding that is supported is chunked."
        raise refuse(message, "Transfer-Encoding", "invalid_value")
    if version != "1.1":
        message = "HTTP/1.0 has no Transfer-Encoding."
        raise refuse(message, "Transfer-Encoding", "invalid_value")
