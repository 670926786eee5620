"""Opaque cursors: a position in a list, valid for the same filters and sort only.

A cursor is the base64 of a digest of its list (filters, sort) and a JSON list of values. Each value
has a type with the bounds of the PostgreSQL type that it is bound to, so a forged cursor is refused
by the decoder and never reaches a statement.

A cursor need not be signed: it is a position among rows that the caller may read anyway, and its
values are bound as parameters. A cursor whose values count the work of all tenants is sealed by a
NumberCipher.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from service.database.hidden_numbers import NumberCipher
from service.errors import Fault, InvalidRequest

NextCursor = Annotated[
    str, Meta(max_length=500, description="pagination.nextCursor of the page before.")
]
_DIGEST_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = (datetime(1, 1, 2, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LATEST = (datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH) // _MICROSECOND


class Part(msgspec.Struct, frozen=True):
    """A value of a cursor: its bounded type in JSON, and how to convert to and from it."""

    json_type: Any
    write: Callable[[Any], int | str]
    read: Callable[[Any], Any]


def integer(minimum: int, maximum: int) -> Part:
    """An integer within bounds."""
    return Part(Annotated[int, Meta(ge=minimum, le=maximum)], int, int)


def _to_microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _from_microseconds(number: int) -> datetime:
    return _EPOCH + number * _MICROSECOND


SMALLINT = integer(-(2**15), 2**15 - 1)
POSITION = integer(0, 2**62)
"""A bigint that is not negative, with room for additions."""
TIME = Part(Annotated[int, Meta(ge=_EARLIEST, le=_LATEST)], _to_microseconds, _from_microseconds)
"""A timestamptz in microseconds, within the ranges of both Python and PostgreSQL."""
ID = Part(Annotated[str, Meta(max_length=100, pattern=r"^[^\x00]*\Z")], str, str)


class CursorCodec:
    """Encodes and decodes the cursors of one kind of list."""

    def __init__(self, *parts: Part, field: str = "cursor") -> None:
        """`field` is the query parameter that carries the cursor."""
        self._parts = parts
        self._field = field
        json_types = tuple(part.json_type for part in parts)
        self._decoder = msgspec.json.Decoder(tuple.__class_getitem__(json_types))

    def encode(self, list_key: object, *values: Any, cipher: NumberCipher | None = None) -> str:
        """Encode a cursor with one value for each part; `cipher` seals it.

        `list_key` identifies the list with its filters and sort; it can be any JSON value.
        """
        written = [part.write(value) for part, value in zip(self._parts, values, strict=True)]
        raw = _digest(list_key) + msgspec.json.encode(written)
        raw = raw if cipher is None else cipher.seal(raw)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def decode(
        self, list_key: object, text: str, *, cipher: NumberCipher | None = None
    ) -> tuple[Any, ...]:
        """Decode a cursor of the same list to its values. Raises InvalidRequest for other text."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            raw = raw if cipher is None else cipher.open(raw) or b""
            written = self._decoder.decode(raw[_DIGEST_BYTES:])
        except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
            raise self._refuse(
                "is not valid: send the pagination.nextCursor of the page before."
            ) from None
        if raw[:_DIGEST_BYTES] != _digest(list_key):
            message = "belongs to other filters or another sort: start again without it."
            raise self._refuse(message)
        return tuple(part.read(value) for part, value in zip(self._parts, written, strict=True))

    def _refuse(self, reason: str) -> InvalidRequest:
        message = f"{self._field} {reason}"
        return InvalidRequest(message, details=[Fault(self._field, "invalid_value", message)])


def _digest(list_key: object) -> bytes:
    return hashlib.sha256(msgspec.json.encode(list_key)).digest()[:_DIGEST_BYTES]
