"""Idempotency keys: the digests that identify a request, and the response stored under them."""

import hashlib
from uuid import UUID

import msgspec

from service.errors import Conflict, Fault, InvalidRequest, Unprocessable

HEADER = "Idempotency-Key"
HEADER_NAME = HEADER.lower()
MAX_LENGTH = 255
MAX_STORED_BYTES = 64 * 1024
"""The largest body that is stored. The limits of request bodies keep successful responses below it.
A larger refusal is not stored: it changed nothing, and a repeated request gets it again."""


class IdempotencyKey(msgspec.Struct, frozen=True):
    """Two digests (128 bits of BLAKE2b): `key` of route and header, `request` of the request.

    They are hexadecimal digits, which columns of type uuid accept: making a UUID object would take
    as long as making the digest.
    """

    key: str
    request: str


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The response to an earlier request with the same key, to be sent again byte for byte."""

    status: int
    body: bytes
    location: str | None
    etag: str | None


class KeyInUse(Conflict):
    """The first request with this key is still in progress."""

    def __init__(self) -> None:
        super().__init__(
            f"A request with this {HEADER} is still in progress; repeat it in a moment.",
            headers={"Retry-After": "1"},
        )


class KeyReused(Unprocessable):
    """The key was used before, with a different request."""

    def __init__(self) -> None:
        message = f"This {HEADER} was used with another request; use a new key for a new request."
        super().__init__(message, details=[Fault(HEADER, "reused", message)])


def check_key(text: str) -> str:
    """Returns the value of the header. Raises InvalidRequest."""
    if 1 <= len(text) <= MAX_LENGTH and text.isascii() and text.isprintable():
        return text
    message = (
        f"{HEADER} must have 1 to {MAX_LENGTH} printable ASCII characters, a UUID for example."
    )
    raise InvalidRequest(message, details=[Fault(HEADER, "invalid_header", message)])


def make_digest(*parts: str | bytes) -> str:
    """Digests the parts and their lengths, in order: ("ab", "c") and ("a", "bc") differ."""
    raws = [part if isinstance(part, bytes) else part.encode() for part in parts]
    whole = b"".join([b"%d:%b" % (len(raw), raw) for raw in raws])
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def make_stored_response_owner(tenant_id: int, live: bool, key: str | UUID) -> str:
    """The owner that an encrypted stored response is bound to; see service/encryption.py."""
    return f"idempotent response {tenant_id} {live} {UUID(str(key))}"
