"""Authentication: from an Authorization header to the caller's key, tenant, mode and scope."""

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

import sql
from service.access.api_keys import Scope, hash_key
from service.access.plans import Plan, read_plan
from service.database.batching import Batcher
from service.database.connect import Pool
from service.errors import Forbidden, Unauthorized
from service.load.owner import KnownKeys

CACHE_S = 0.5
"""Lifetime of a cached look-up; a revoked key must stop working within 1 s in every process."""
CACHE_SIZE = 10_000
MIN_SECRET_LENGTH = 16
LOOKUP_LIMIT_S = 5.0
"""The longest expected wait for a look-up. One statement does up to 200 look-ups."""
NO_KEY = "No API key: send the header Authorization: Bearer sk_live_…."
_BEARER = re.compile(r"Bearer +(sk_(?:live|test)_[A-Za-z0-9]{16,64})", re.IGNORECASE)
_PREFIX = re.compile(r"Bearer +(sk_(?:live|test)_)", re.IGNORECASE)
_RANK: dict[Scope, int] = {"read": 0, "write": 1, "admin": 2}


class Principal(msgspec.Struct, frozen=True):
    """The authenticated caller of a request."""

    key_id: str
    tenant_id: int
    live: bool
    scope: Scope
    plan: Plan | None = None
    """None: no limits."""
    phone_region: str | None = None
    """The country of phone numbers without a country code."""


class Authenticator:
    """Look keys up in batches and cache each result, valid or not, for CACHE_S seconds."""

    def __init__(
        self,
        pool: Pool,
        limit_s: float = float("inf"),
        default_plan: str | None = None,
        known_keys: KnownKeys | None = None,
    ) -> None:
        """`default_plan` applies to tenants without a plan.

        `known_keys` records the headers that hold a valid key.
        """
        self._pool = pool
        self._default_plan = default_plan
        # Made-up keys wait in the same queue as valid keys that are not in the cache. So the limit
        # of this queue is the wait that a request can bear (LOOKUP_LIMIT_S), not the shorter limit
        # for other work (limit_s).
        self._lookups: Batcher[bytes, Principal | None] = Batcher(
            self._look_up, limit_s=max(limit_s, LOOKUP_LIMIT_S)
        )
        self._known_keys = known_keys or KnownKeys()
        self._cache: dict[bytes, tuple[float, Principal]] = {}
        """Valid keys by hash, each with the time until which its entry counts."""
        self._invalid: dict[bytes, float] = {}
        """Hashes of keys that are not valid, likewise: made-up keys cannot displace valid keys."""
        self._used: dict[str, float] = {}

    async def authenticate(self, header: str | None, needed: Scope) -> Principal:
        """The caller. Raises Unauthorized or Forbidden."""
        cached = self.authenticate_now(header, needed)
        return cached or self._check(await self._find(header), needed)

    def authenticate_now(self, header: str | None, needed: Scope) -> Principal | None:
        """As `authenticate`, from the cache; None if that needs a look-up in the database."""
        key_hash = _read_hash(header)
        known = self._cache.get(key_hash)
        if known is not None and known[0] > time.monotonic():
            return self._check(known[1], needed)
        if self._invalid and self._invalid.get(key_hash, 0.0) > time.monotonic():
            return self._check(None, needed)
        return None

    async def is_valid(self, header: bytes) -> bool:
        """Whether the header holds a valid key. Caches the result; KnownKeys records a valid key.

        Raises Unavailable, or an error of the database.
        """
        text = header.decode("latin-1")
        try:
            key_hash = _read_hash(text)
        except Unauthorized:
            return False
        now = time.monotonic()
        if self._invalid.get(key_hash, 0.0) > now:
            return False
        known = self._cache.get(key_hash)
        if known is not None and known[0] > now:
            self._known_keys.add(header, known[1].key_id)
            return True
        return await self._find(text) is not None

    def _check(self, principal: Principal | None, needed: Scope) -> Principal:
        if principal is None:
            raise Unauthorized("This API key is unknown, revoked or expired.")
        if _RANK[principal.scope] < _RANK[needed]:
            raise refuse_scope(needed, principal.scope)
        self._used[principal.key_id] = time.monotonic()
        return principal

    def take_used(self) -> dict[str, float]:
        """The keys used since the last call: ids and the last use (time.monotonic)."""
        used, self._used = self._used, {}
        return used

    async def _find(self, header: str | None) -> Principal | None:
        key_hash, now = _read_hash(header), time.monotonic()
        principal = await self._lookups.submit(key_hash)
        # Counted from before the look-up: its result may be that old already.
        self._remember(key_hash, now + CACHE_S, principal)
        if header is not None and principal is not None:
            self._known_keys.add(header.encode("latin-1"), principal.key_id)
        elif header is not None:
            self._known_keys.discard(header.encode("latin-1"))
        return principal

    def _remember(self, key_hash: bytes, until: float, principal: Principal | None) -> None:
        for cache in (self._cache, self._invalid):
            if len(cache) >= CACHE_SIZE:
                cache.clear()
        if principal is None:
            self._cache.pop(key_hash, None)
            self._invalid[key_hash] = until
        else:
            self._invalid.pop(key_hash, None)
            self._cache[key_hash] = (until, principal)

    async def _look_up(self, hashes: list[bytes]) -> Sequence[Principal | None]:
        rows: list[Any] = await self._pool.fetch(
            sql.api_key_get_many_by_hash, hashes, self._default_plan
        )
        found = {
            row["hash"]: Principal(
                key_id=row["id"],
                tenant_id=row["tenant_id"],
                live=row["live"],
                scope=row["scope"],
                plan=None if row["plan"] is None else read_plan(row["plan"]),
                phone_region=row["phone_region"],
            )
            for row in rows
        }
        return [found.get(key_hash) for key_hash in hashes]


def refuse_scope(needed: Scope, given: Scope) -> Forbidden:
    """Make the 403 for a key whose scope is too small."""
    return Forbidden(f"This needs a key of scope {needed}; the key used has scope {given}.")


def _read_hash(header: str | None) -> bytes:
    if header is None:
        raise Unauthorized(NO_KEY)
    match = _BEARER.fullmatch(header.strip())
    if match is None:
        raise Unauthorized(_explain_malformed(header.strip()))
    return hash_key(match[1])


def _explain_malformed(header: str) -> str:
    """Why the header holds no API key, without any part of the key."""
    prefix = _PREFIX.match(header)
    if prefix is None:
        return "The Authorization header must be: Bearer sk_live_… or sk_test_…."
    secret = header[prefix.end() :]
    if secret and not (secret.isascii() and secret.isalnum()):
        return f"This is not an API key: only letters and digits may follow {prefix[1]}."
    is_short = len(secret) < MIN_SECRET_LENGTH
    question = "was all of it copied?" if is_short else "was more than the key copied?"
    return (
        f"This is not an API key: 16 to 64 letters and digits must follow {prefix[1]}, "
        f"here {len(secret)}; {question}"
    )
