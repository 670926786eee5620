"""ETags: a lead's version as an ETag, and the conditional requests of clients (RFC 9110, 13).

`"7"` is version 7 with a complete timeline. `"7.6"` is version 7 whose timeline still ends at
version 6, because the timeline is written a moment after the lead. A client with that copy gets a
newer one as soon as the timeline is complete.
"""

import re
from typing import TypeAlias

from service.errors import PreconditionFailed

Versions: TypeAlias = list[int] | None
"""The versions that a write accepts; None: any."""
_TAG = re.compile(r'[ \t]*(?:(?:W/)?"([\x21\x23-\x7e]*)"[ \t]*)?(?:,|$)')
"""One element of a list; it may be empty (RFC 9110, 5.6.1)."""
_ETAG = re.compile(r"(\d{1,18})(?:\.\d{1,18})?")
_COMPLETE = re.compile(r'(?:W/)?"(\d{1,18})"')


def make_etag(version: int, timeline_version: int) -> str:
    """The ETag of a version whose timeline ends at `timeline_version`."""
    if timeline_version >= version:
        return f'"{version}"'
    return f'"{version}.{timeline_version}"'


def find_known_version(if_none_match: str | None) -> int:
    """The version of the client's complete copy; 0 if If-None-Match names none, or several."""
    match = _COMPLETE.fullmatch(if_none_match.strip()) if if_none_match else None
    return int(match[1]) if match else 0


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether If-None-Match contains the ETag; a malformed header contains none."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    try:
        return etag[1:-1] in _read_tags(if_none_match)
    except ValueError:
        return False


def parse_if_match(header: str | None) -> Versions:
    """The versions in If-Match; [] if no ETag is of our form. Raises PreconditionFailed."""
    if header is None or header.strip() == "*":
        return None
    try:
        tags = _read_tags(header)
    except ValueError:
        message = 'If-Match must be * or one or more ETags in double quotes, such as "7".'
        raise PreconditionFailed(message) from None
    return [int(match[1]) for match in map(_ETAG.fullmatch, tags) if match]


def _read_tags(header: str) -> list[str]:
    tags, position = [], 0
    while position < len(header):
        match = _TAG.match(header, position)
        if match is None:
            raise ValueError("not a list of ETags")
        if match[1] is not None:
            tags.append(match[1])
        position = match.end()
    if not tags:
        raise ValueError("no ETag")
    return tags
