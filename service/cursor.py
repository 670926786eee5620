"""Opaque cursors: where a list goes on, tied to the filters and the sort it was made for."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from service.errors import Fault, InvalidRequest

NextCursor = Annotated[
    str, Meta(max_length=500, description="Goes on after a page: its pagination.nextCursor.")
]
_DIGEST_BYTES = 8


class Place(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page: the texts of its sort values, and its id."""

    values: tuple[Any, ...]
    id: str


def encode_cursor(place: Place, belongs_to: object) -> str:
    """`belongs_to`: what must be the same when the cursor comes back; anything JSON can hold."""
    raw = _digest(belongs_to) + msgspec.json.encode(place)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(text: str, belongs_to: object, kinds: Sequence[Callable[[str], Any]]) -> Place:
    """The place in a cursor of ours, each of its values read by its kind.

    Raises InvalidRequest for any other text. A cursor need not be secret or signed: it only says
    where to go on among rows that the caller may read anyway, and all of it is bound as parameters.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        place = msgspec.json.decode(raw[_DIGEST_BYTES:], type=Place)
        values = tuple(kind(value) for kind, value in zip(kinds, place.values, strict=True))
    except (binascii.Error, ValueError, TypeError, AttributeError, RecursionError):
        raise _refuse("cursor is not one of ours: take pagination.nextCursor.") from None
    if "\0" in place.id or any(isinstance(v, int) and abs(v) >= 2**15 for v in values):
        raise _refuse("cursor is not one of ours: take pagination.nextCursor.")
    if raw[:_DIGEST_BYTES] != _digest(belongs_to):
        raise _refuse("cursor was made for other filters or another sort: begin anew without it.")
    return Place(values, place.id)


def _digest(belongs_to: object) -> bytes:
    return hashlib.sha256(msgspec.json.encode(belongs_to)).digest()[:_DIGEST_BYTES]


def _refuse(message: str) -> InvalidRequest:
    return InvalidRequest(message, details=[Fault("cursor", "invalid_value", message)])
