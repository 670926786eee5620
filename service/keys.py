"""API keys: made, rotated, revoked; looked up by hash. A key is shown once and never kept."""

import hashlib
import secrets
import string
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

import sql
from service.db import Connection
from service.errors import Fault
from service.ids import make_id
from service.models import Input, Moment, Wire, check_moment, parse_moment
from service.validation import Check

Scope = Literal["read", "write", "admin"]
Mode = Literal["live", "test"]
_ALPHABET = string.ascii_letters + string.digits
_SECRET_CHARACTERS = 32  # 190 bits


class ApiKey(Wire):
    """A key as it is listed: never the key itself."""

    id: str
    name: str
    scope: Scope
    mode: Mode
    last4: str
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None


class NewKey(Wire):
    """A key just made; `key` is shown this once."""

    id: str
    name: str
    scope: Scope
    mode: Mode
    key: str
    last4: str
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None


class KeyList(Wire):
    data: list[ApiKey]


def check_future(text: str) -> Iterator[Fault]:
    """`expiresAt` is a time to come."""
    faults = list(check_moment("expiresAt")(text))
    yield from faults
    if not faults and parse_moment(text) <= datetime.now(UTC):
        yield Fault("expiresAt", "impossible_time", "expiresAt must be in the future.")


class KeyRequest(Input):
    """The body of POST /v1/api-keys; `mode` is the caller's when absent."""

    checks: ClassVar[Mapping[str, Check]] = {"expires_at": check_future}
    read_only: ClassVar[frozenset[str]] = frozenset(
        {"id", "key", "last4", "createdAt", "lastUsedAt"}
    )

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scope: Scope
    mode: Mode | None = None
    expires_at: Moment | None = None


class KeyRotation(Input):
    """The body of POST /v1/api-keys/{id}/rotate: how long the old key works on."""

    grace_seconds: Annotated[int, Meta(ge=0, le=30 * 86400)] = 86400


def hash_key(key: str) -> bytes:
    """What is stored and looked up."""
    return hashlib.sha256(key.encode()).digest()


async def create_key(
    conn: Connection,
    tenant_id: int,
    live: bool,
    name: str,
    scope: str,
    expires_at: datetime | None = None,
) -> NewKey:
    """Makes a key for a tenant; at most 100 characters of name."""
    key = _make_key(live)
    row = await conn.fetchrow(
        sql.api_key_insert, make_id("key"), tenant_id, live, name, scope, hash_key(key), key[-4:],
        expires_at,
    )  # fmt: skip
    return NewKey(key=key, **_to_fields(row))


async def list_keys(conn: Connection, tenant_id: int, live: bool) -> list[ApiKey]:
    """The keys that still work, oldest first: in live mode all of the tenant's, else test keys."""
    rows = await conn.fetch(sql.api_key_list, tenant_id, live)
    return [ApiKey(**_to_fields(row)) for row in rows]


async def revoke_key(conn: Connection, tenant_id: int, live: bool, key_id: str) -> bool:
    """False if there is no such working key within reach of the mode."""
    return await conn.fetchval(sql.api_key_revoke, tenant_id, live, key_id) is not None


async def rotate_key(
    conn: Connection, tenant_id: int, live: bool, key_id: str, grace_s: int
) -> NewKey | None:
    """A new key like the old one, which works on for `grace_s` seconds; None as for `revoke`."""
    old_is_live = await conn.fetchval(sql.api_key_get_mode, tenant_id, live, key_id)
    if old_is_live is None:
        return None
    key = _make_key(old_is_live)
    row = await conn.fetchrow(
        sql.api_key_rotate, tenant_id, live, key_id, make_id("key"), hash_key(key), key[-4:],
        grace_s,
    )  # fmt: skip
    return None if row is None else NewKey(key=key, **_to_fields(row))


def _make_key(live: bool) -> str:
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARACTERS))
    return f"sk_{'live' if live else 'test'}_{secret}"


def _to_fields(row: Any) -> dict[str, Any]:
    fields = dict(row)
    fields["mode"] = "live" if fields.pop("live") else "test"
    return fields
