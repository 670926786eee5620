"""The parts of a webhook URL that an HTTP request needs (pure)."""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import idna

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_PATH_CHARS = "%/:@!$&'()*+,;=~"


class InvalidUrlError(ValueError):
    """The URL can never be requested, whatever the network does."""


class Origin(NamedTuple):
    """The target of a connection. A host name outside ASCII is in its IDNA form."""

    tls: bool
    host: str
    port: int


class ParsedUrl(NamedTuple):
    """A URL as origin, request target and the value of the Host header."""

    origin: Origin
    target: str
    host: str


@lru_cache(4096)
def parse_url(url: str) -> ParsedUrl:
    """Parses a URL; percent-encodes each character that a path or query may not contain.

    Raises InvalidUrlError.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if not host.isascii():  # full-width digits become digits
            host = idna.encode(host, uts46=True).decode()
    except ValueError as error:  # idna.IDNAError is a ValueError
        raise InvalidUrlError(str(error)) from error
    if parts.scheme not in _PORTS or "@" in parts.netloc or not _HOST.fullmatch(host):
        raise InvalidUrlError("the URL is not http or https, has no host, or has a user name")
    target = quote(parts.path, safe=_PATH_CHARS) or "/"
    if parts.query:
        target += "?" + quote(parts.query, safe=_PATH_CHARS + "?")
    host_header = f"[{host}]" if ":" in host else host
    if port not in {None, _PORTS[parts.scheme]}:
        host_header += f":{port}"
    origin = Origin(parts.scheme == "https", host, port or _PORTS[parts.scheme])
    return ParsedUrl(origin, target, host_header)
