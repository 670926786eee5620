"""From an Authorization header to a principal: who calls, for which tenant and mode, how far."""

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

import sql
from service.batching import Batcher
from service.db import Pool
from service.errors import Forbidden, Unauthorized
from service.keys import Scope, hash_key
from service.limits.plans import Plan, read_plan

CACHE_S = 0.5
"""How long a look-up is believed; a revoked key must stop within 1 s in every process."""
CACHE_SIZE = 10_000
_BEARER = re.compile(r"Bearer (sk_(?:live|test)_[A-Za-z0-9]{16,64})", re.IGNORECASE)
_RANK: dict[Scope, int] = {"read": 0, "write": 1, "admin": 2}


class Principal(msgspec.Struct, frozen=True):
    """The caller of a request."""

    key_id: str
    tenant_id: int
    live: bool
    scope: Scope
    plan: Plan | None = None
    """None: no limits."""


class Authenticator:
    """Looks keys up in batches and believes an answer, good or bad, for CACHE_S seconds."""

    def __init__(
        self, pool: Pool, late_after_s: float = float("inf"), default_plan: str | None = None
    ) -> None:
        """`default_plan` is that of tenants which have none of their own."""
        self._pool = pool
        self._default_plan = default_plan
        self._lookups: Batcher[bytes, Principal | None] = Batcher(
            self._look_up, late_after_s=late_after_s
        )
        self._cache: dict[bytes, tuple[float, Principal | None]] = {}
        self._used: dict[str, float] = {}

    async def authenticate(self, header: str | None, needed: Scope) -> Principal:
        """Raises Unauthorized or Forbidden."""
        known = self.authenticate_now(header, needed)
        return known or self._judge(await self._find(_read_hash(header)), needed)

    def authenticate_now(self, header: str | None, needed: Scope) -> Principal | None:
        """As `authenticate`; None if the database is to be asked."""
        known = self._cache.get(_read_hash(header))
        if known is None or known[0] <= time.monotonic():
            return None
        return self._judge(known[1], needed)

    def _judge(self, principal: Principal | None, needed: Scope) -> Principal:
        if principal is None:
            raise Unauthorized("This API key is unknown, revoked or expired.")
        if _RANK[principal.scope] < _RANK[needed]:
            raise Forbidden(
                f"This needs a key of scope {needed}; the key used has scope {principal.scope}."
            )
        self._used[principal.key_id] = time.time()
        return principal

    def take_used(self) -> dict[str, float]:
        """Key ids and when each was last used since the last call, in Unix seconds."""
        used, self._used = self._used, {}
        return used

    async def _find(self, key_hash: bytes) -> Principal | None:
        now = time.monotonic()
        principal = await self._lookups.submit(key_hash)
        if len(self._cache) >= CACHE_SIZE:  # a flood of made-up keys must not fill the memory
            self._cache.clear()
        # The clock of before the look-up: the answer may be as old as its question.
        self._cache[key_hash] = (now + CACHE_S, principal)
        return principal

    async def _look_up(self, hashes: list[bytes]) -> Sequence[Principal | None]:
        rows: list[Any] = await self._pool.fetch(
            sql.api_key_get_many_by_hash, hashes, self._default_plan
        )
        found = {
            row["hash"]: Principal(
                row["id"], row["tenant_id"], row["live"], row["scope"],
                None if row["plan"] is None else read_plan(row["plan"]),
            )
            for row in rows
        }  # fmt: skip
        return [found.get(key_hash) for key_hash in hashes]


def _read_hash(header: str | None) -> bytes:
    if header is None:
        raise Unauthorized("No API key: send the header Authorization: Bearer sk_live_….")
    match = _BEARER.fullmatch(header.strip())
    if match is None:
        raise Unauthorized("The Authorization header must be: Bearer sk_live_… or sk_test_….")
    return hash_key(match[1])
