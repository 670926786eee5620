"""ETags: the versions of a lead as an ETag, and the conditional requests of clients (RFC 9110, 13).

`"3.7"` is version 7 with a complete timeline; 3 is its edit version, the last that changed a field
which clients can write. `"3.7.6"` is the same lead with a timeline that still ends at version 6,
because the timeline is written a moment after the lead. A client with that copy gets a newer one
as soon as the timeline is complete.

If-Match compares edit versions, so a new score never makes a client's write fail. If-None-Match
compares the whole ETag, so a client always gets the newest score.
"""

import re
from typing import TypeAlias

from service.errors import Fault, InvalidRequest

Versions: TypeAlias = list[int] | None
"""The edit versions that a write accepts; None: any."""
_TAG = re.compile(r'[ \t]*(?:(?:W/)?"([\x21\x23-\x7e]*)"[ \t]*)?(?:,|$)')
"""One element of a list; it may be empty (RFC 9110, 5.6.1)."""
_ETAG = re.compile(r"(\d{1,18})\.(\d{1,18})(?:\.\d{1,18})?")
_COMPLETE = re.compile(r'(?:W/)?"\d{1,18}\.(\d{1,18})"')


def make_etag(edit_version: int, version: int, timeline_version: int) -> str:
    """The ETag of a version whose timeline ends at `timeline_version`."""
    if timeline_version >= version:
        return f'"{edit_version}.{version}"'
    return f'"{edit_version}.{version}.{timeline_version}"'


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
    """The edit versions in If-Match; [] if no ETag is of our form. Raises InvalidRequest."""
    if header is None or header.strip() == "*":
        return None
    try:
        tags = _read_tags(header)
    except ValueError:
        message = 'If-Match must be * or one or more ETags in double quotes, such as "3.7".'
        fault = Fault("If-Match", "invalid_value", message)
        raise InvalidRequest(message, details=[fault]) from None
    found = ((int(match[1]), int(match[2])) for match in map(_ETAG.fullmatch, tags) if match)
    return [edit_version for edit_version, version in found if edit_version <= version]


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
