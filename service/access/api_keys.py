"""API keys: create, list, rotate, revoke. Only the hash is stored; a key is shown once."""

import hashlib
import secrets
import string
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

import sql
from service.database.connect import Connection
from service.errors import Conflict, Fault, Unprocessable
from service.ids import make_id
from service.validation.characters import is_blank
from service.validation.field_types import (
    ApiStruct,
    Check,
    Input,
    Moment,
    check_moment,
)

Scope = Literal["read", "write", "admin"]
Mode = Literal["live", "test"]
_ALPHABET = string.ascii_letters + string.digits
_SECRET_CHARACTERS = 32  # 190 bits
MAX_KEYS = 1000
"""The limit for one tenant and mode. The list of keys, which has no pages, stays below 1.5 MB."""


class ApiKey(ApiStruct):
    """An entry of the list of keys, without the key itself."""

    id: str
    name: str
    scope: Scope
    mode: Mode
    last4: str
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None


class NewKey(ApiStruct):
    """A new key; only this response shows `key`."""

    id: str
    name: str
    scope: Scope
    mode: Mode
    key: str
    last4: str
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None


class KeyList(ApiStruct):
    """All keys that work, on one page: at most 1,000 of each mode."""

    data: list[ApiKey]


def check_name(name: str) -> Iterator[Fault]:
    """Check that a list of keys would show the name."""
    if is_blank(name):
        yield Fault("name", "invalid_value", "name must not be blank.")


class KeyRequest(Input):
    """The body of POST /v1/api-keys; the default of `mode` is the mode of the caller."""

    checks: ClassVar[Mapping[str, Check]] = {
        "name": check_name,
        "expires_at": check_moment("expiresAt"),
    }
    read_only: ClassVar[frozenset[str]] = frozenset(
        {"id", "key", "last4", "createdAt", "lastUsedAt"}
    )

    name: Annotated[str, Meta(min_length=1, max_length=100, extra_json_schema={"pattern": r"\S"})]
    scope: Scope
    mode: Mode | None = None
    expires_at: Moment | None = None


class KeyRotation(Input):
    """The body of POST /v1/api-keys/{id}/rotate: how long the old key stays valid."""

    may_be_absent: ClassVar[bool] = True

    grace_seconds: Annotated[int, Meta(ge=0, le=30 * 86400)] = 86400


def hash_key(key: str) -> bytes:
    """The hash under which a key is stored."""
    return hashlib.sha256(key.encode()).digest()


async def create_key(
    conn: Connection,
    tenant_id: int,
    live: bool,
    name: str,
    scope: str,
    expires_at: datetime | None = None,
) -> NewKey:
    """Create a key for a tenant; `name` has at most 100 characters.

    Raises Unprocessable if `expires_at` has passed by the database's clock, or if there are
    MAX_KEYS already.
    """
    if expires_at is not None:  # stored to the millisecond, as it is shown
        expires_at -= timedelta(microseconds=expires_at.microsecond % 1000)
    key = _make_key(live)
    async with _limiting_keys(conn, tenant_id, live):
        new = make_id("key"), tenant_id, live, name, scope, hash_key(key), key[-4:], expires_at
        row = await conn.fetchrow(sql.api_key_insert, *new)
    if row is None:
        message = "expiresAt must be in the future."
        raise Unprocessable(message, details=[Fault("expiresAt", "impossible_time", message)])
    return NewKey(key=key, **_to_fields(row))


async def list_keys(conn: Connection, tenant_id: int, live: bool) -> str:
    """The working keys as JSON, each as ApiKey, separated by commas, the oldest first.

    A test caller gets test keys only.
    """
    return await conn.fetchval(sql.api_key_list, tenant_id, live) or ""


async def revoke_key(conn: Connection, tenant_id: int, live: bool, key_id: str) -> bool:
    """Revoke a key; False if there is no such working key. A test caller reaches test keys only."""
    return await conn.fetchval(sql.api_key_revoke, tenant_id, live, key_id) is not None


async def rotate_key(
    conn: Connection, tenant_id: int, live: bool, key_id: str, grace_s: int
) -> NewKey | None:
    """Create a key like the old one, which stays valid for `grace_s` seconds.

    None if there is no such working key; a test caller reaches test keys only.

    Raises Unprocessable if there are MAX_KEYS already, and Conflict if the key was rotated before.
    """
    old = await conn.fetchrow(sql.api_key_find, tenant_id, live, key_id)
    if old is None:
        return None
    key = _make_key(old["live"])
    async with _limiting_keys(conn, tenant_id, old["live"]):
        new = make_id("key"), hash_key(key), key[-4:]
        row = await conn.fetchrow(sql.api_key_rotate, tenant_id, live, key_id, *new, grace_s)
    if row is None:
        raise already_rotated(old["rotated_at"] or "this moment")
    return NewKey(key=key, **_to_fields(row))


def already_rotated(at: str) -> Conflict:
    """Make the error for a key that another key has replaced."""
    return Conflict(
        f"This key was rotated at {at}: rotate the key that replaced it, or create another one "
        "if that was lost."
    )


@asynccontextmanager
async def _limiting_keys(conn: Connection, tenant_id: int, live: bool) -> AsyncIterator[None]:
    """Open a transaction that is rolled back with Unprocessable if it leaves more than MAX_KEYS.

    The transactions of a tenant run one after the other, so each counts the keys of earlier ones.
    """
    async with conn.transaction():
        await conn.execute(sql.tenant_lock, tenant_id)
        yield
        if await conn.fetchval(sql.api_key_count, tenant_id, live) > MAX_KEYS:
            mode = "live" if live else "test"
            raise Unprocessable(
                f"There are {MAX_KEYS} working {mode} keys already, which is the limit: revoke one "
                "first, or rotate one with graceSeconds 0."
            )


def _make_key(live: bool) -> str:
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARACTERS))
    return f"sk_{'live' if live else 'test'}_{secret}"


def _to_fields(row: Any) -> dict[str, Any]:
    fields = dict(row)
    fields["mode"] = "live" if fields.pop("live") else "test"
    return fields
