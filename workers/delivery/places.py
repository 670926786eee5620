"""Where a URL points, as HTTP needs it (pure)."""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import idna

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_PATH_CHARS = "%/:@!$&'()*+,;=~"


class InvalidUrlError(ValueError):
    """Nothing can be sent there, whatever the network does."""


class Origin(NamedTuple):
    """What a connection leads to. A name outside ASCII is in its IDNA form."""

    tls: bool
    host: str
    port: int


class Place(NamedTuple):
    """`target` and `host` as they go into a request's first two lines."""

    origin: Origin
    target: str
    host: str


@lru_cache(4096)
def parse_place(url: str) -> Place:
    """Raises InvalidUrlError. What of the path is not ASCII, or no part of a path, is escaped."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if not host.isascii():  # full-width digits become digits
            host = idna.encode(host, uts46=True).decode()
    except ValueError as error:  # idna.IDNAError is one
        raise InvalidUrlError(str(error)) from error
    if parts.scheme not in _PORTS or "@" in parts.netloc or not _HOST.fullmatch(host):
        raise InvalidUrlError("neither http nor https, no host, or a user name")
    target = quote(parts.path, safe=_PATH_CHARS) or "/"
    if parts.query:
        target += "?" + quote(parts.query, safe=_PATH_CHARS + "?")
    named = f"[{host}]" if ":" in host else host
    if port not in {None, _PORTS[parts.scheme]}:
        named += f":{port}"
    return Place(Origin(parts.scheme == "https", host, port or _PORTS[parts.scheme]), target, named)
