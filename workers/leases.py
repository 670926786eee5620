"""Leases: the right of one process to run a job, stored in PostgreSQL and renewed together."""

import asyncio
import math
import time
from contextlib import suppress

import sql
from service.database.connect import DATABASE_AWAY, Pool

LEASE_S = 5.0
RENEW_S = 1.5


class LeaseLostError(Exception):
    """Another process runs this job now."""


class Leases:
    """The leases of this process. Those of jobs that asked lately are renewed for LEASE_S."""

    def __init__(self, pool: Pool, owner: str) -> None:
        self._pool, self._owner = pool, owner
        self._asked_at: dict[str, float] = {}
        """By job with a lease: when it last asked for a renewal, by time.monotonic."""
        self._renewed_at = -math.inf
        self._lock = asyncio.Lock()

    async def acquire(self, name: str) -> None:
        """Acquires a lease. Raises LeaseLostError."""
        if await self._pool.fetchval(sql.lease_take, name, self._owner, LEASE_S) is None:
            raise LeaseLostError(name)
        self._asked_at[name] = time.monotonic()

    async def renew_if_due(self, name: str) -> None:
        """Every RENEW_S, renews the leases of all jobs that do not hang. Raises LeaseLostError."""
        now = time.monotonic()
        is_late = now - self._asked_at.get(name, now) >= 2 * RENEW_S  # the lease may have expired
        if name in self._asked_at:
            self._asked_at[name] = now
        if is_late or now - self._renewed_at > RENEW_S:
            async with self._lock:
                if is_late or time.monotonic() - self._renewed_at > RENEW_S:
                    await self._renew()
        if name not in self._asked_at:
            raise LeaseLostError(name)

    async def release(self, name: str) -> None:
        """Releases a lease, so that another process need not wait until it expires."""
        async with self._lock:  # else a renewal in flight would undo it
            self._asked_at.pop(name, None)
            with suppress(*DATABASE_AWAY):  # the lease will expire
                await self._pool.execute(sql.lease_release, name, self._owner)

    async def _renew(self) -> None:
        now = time.monotonic()  # read before the statement: the leases begin no earlier
        # The lease of a job that hangs expires, so that another process can run the job.
        names = [name for name, asked_at in self._asked_at.items() if now - asked_at < 2 * RENEW_S]
        rows = await self._pool.fetch(sql.lease_renew_many, names, self._owner, LEASE_S)
        for name in set(names) - {row["name"] for row in rows}:
            self._asked_at.pop(name, None)
        self._renewed_at = now
