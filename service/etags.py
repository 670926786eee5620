"""A lead's version as an ETag, and the conditions that clients make of it (RFC 9110, 13).

`"7"` is version 7. `"7.6"` is version 7 with a timeline that so far tells of version 6 only, for
the timeline is written a moment after the lead: whoever keeps that copy gets the rest in time.
"""

import re
from typing import TypeAlias

from service.errors import PreconditionFailed

Versions: TypeAlias = list[int] | None
"""The versions a write may find; None: any."""
_TAG = re.compile(r'\s*(?:W/)?"([\x21\x23-\x7e]*)"\s*(?:,|$)')
_OURS = re.compile(r"(\d{1,18})(?:\.\d{1,18})?")
_WHOLE = re.compile(r'(?:W/)?"(\d{1,18})"')


def make_etag(version: int, told: int) -> str:
    """`told` is the newest version that the timeline tells of."""
    return f'"{version}"' if told >= version else f'"{version}.{told}"'


def find_known_version(if_none_match: str | None) -> int:
    """The version of the one complete copy that the caller has; 0 if there is none to save on."""
    match = _WHOLE.fullmatch(if_none_match.strip()) if if_none_match else None
    return int(match[1]) if match else 0


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether If-None-Match names the tag. What cannot be read names nothing."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    try:
        return etag[1:-1] in _read_tags(if_none_match)
    except ValueError:
        return False


def parse_if_match(header: str | None) -> Versions:
    """The versions that If-Match names: [] if none is ours. Raises PreconditionFailed."""
    if header is None or header.strip() == "*":
        return None
    try:
        tags = _read_tags(header)
    except ValueError:
        message = 'If-Match must be * or one or more ETags in double quotes, such as "7".'
        raise PreconditionFailed(message) from None
    return [int(match[1]) for match in map(_OURS.fullmatch, tags) if match]


def _read_tags(header: str) -> list[str]:
    tags, place = [], 0
    while place < len(header):
        match = _TAG.match(header, place)
        if match is None:
            raise ValueError("not a list of ETags")
        tags.append(match[1])
        place = match.end()
    if not tags:
        raise ValueError("no ETag")
    return tags
