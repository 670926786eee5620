"""What an Idempotency-Key stands for, and the answer that is kept under it."""

import hashlib
from uuid import UUID

import msgspec

from service.errors import Conflict, Fault, InvalidRequest, Unprocessable

HEADER = "Idempotency-Key"
HEADER_NAME = HEADER.lower()
MAX_LENGTH = 255


class RequestKey(msgspec.Struct, frozen=True):
    """Digests (128 bits of BLAKE2b): `key` of what may happen once, `request` of what was asked.

    As hexadecimal digits, which the columns of type uuid take: a UUID costs as much as its digest.
    """

    key: str
    request: str


class KeptAnswer(Exception):  # noqa: N818  # no error: the answer to a request that was made before
    """The answer that was kept, to be sent again byte for byte."""

    def __init__(
        self, status: int, body: bytes, *, location: str | None = None, etag: str | None = None
    ) -> None:
        super().__init__("answered before")
        self.status = status
        self.body = body
        self.headers = {"Idempotency-Replayed": "true"}
        if location is not None:
            self.headers["Location"] = location
        if etag is not None:
            self.headers["ETag"] = etag


class KeyInUse(Conflict):
    """The same request is still at work."""

    def __init__(self) -> None:
        super().__init__(
            f"A request with this {HEADER} is still at work; repeat it in a moment.",
            headers={"Retry-After": "1"},
        )


class KeyReused(Unprocessable):
    """The key came back with something else to do."""

    def __init__(self) -> None:
        message = f"This {HEADER} was used with another request; use a new key for a new request."
        super().__init__(message, details=[Fault(HEADER, "reused", message)])


def check_key(text: str) -> str:
    """The header's value. Raises InvalidRequest."""
    if 1 <= len(text) <= MAX_LENGTH and text.isascii() and text.isprintable():
        return text
    message = f"{HEADER} must have 1 to {MAX_LENGTH} visible ASCII characters, a UUID for example."
    raise InvalidRequest(message, details=[Fault(HEADER, "invalid_header", message)])


def make_digest(*parts: str | bytes) -> str:
    """Of the parts in their order; where one ends and the next begins counts too."""
    raws = [part if isinstance(part, bytes) else part.encode() for part in parts]
    whole = b"".join([b"%d:%b" % (len(raw), raw) for raw in raws])
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def make_owner(tenant_id: int, live: bool, key: str | UUID) -> str:
    """What a sealed answer belongs to; see service/secretbox.py."""
    return f"answer {tenant_id} {live} {UUID(str(key))}"
