"""Leads written as the API writes them, and jobs whose `once()` the tests call themselves."""

from dataclasses import dataclass
from typing import Protocol

import asyncpg
from redis.asyncio import Redis

from service.access.authentication import Principal
from service.database.connect import Pool
from service.events.wake_ups import Wakeups
from service.leads.models import LeadPatch, NewLead
from service.leads.store import LeadStore
from service.settings import Settings
from service.validation.decoding import decode_body
from tests.harness.factories import make_tenant
from workers.jobs import WorkerContext
from workers.ticker import Ticker


class HasOnce(Protocol):
    async def once(self) -> int: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class WorkerHarness:
    """One tenant's leads, and the context that jobs need."""

    context: WorkerContext
    leads: LeadStore
    principal: Principal

    @property
    def pool(self) -> Pool:
        return self.context.pool

    async def capture(self, body: str) -> str:
        """Creates a lead from a request body; returns its id."""
        made = await self.leads.capture(self.principal, decode_body(body.encode(), NewLead))
        return str(made.location).rpartition("/")[2]

    async def patch(self, lead_id: str, body: str) -> None:
        await self.leads.update(self.principal, lead_id, decode_body(body.encode(), LeadPatch))

    async def delete(self, lead_id: str) -> None:
        await self.leads.delete(self.principal, lead_id)

    async def drain(self, *jobs: HasOnce) -> None:
        """Runs a ticker and the jobs until none of them has work left, then ends the jobs."""
        ticker = Ticker(self.context)
        while sum([await job.once() for job in (ticker, *jobs)]):
            pass
        for job in jobs:
            await job.close()

    async def row(self, lead_id: str) -> asyncpg.Record:
        found: asyncpg.Record | None = await self.pool.fetchrow(
            "SELECT l.score, s.factors, s.rules, s.scored_at, s.stale_at, l.version, l.updated_at, "
            "l.last_active_at, l.xmin::text, s.xmin::text AS score_xmin "
            "FROM lead l JOIN lead_score s USING (tenant_id, live, score, id) WHERE id = $1",
            lead_id,
        )
        assert found is not None
        return found

    async def events(self, lead_id: str) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.pool.fetch(
            "SELECT id, version, type, actor, at, data, event_id FROM outbox "
            "WHERE lead_id = $1 ORDER BY id",
            lead_id,
        )
        return found


async def make_worker_harness(pool: Pool, settings: Settings, redis: Redis) -> WorkerHarness:
    """A harness for a new tenant. Wake-ups are not sent, since tests call `once()` themselves."""
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    wakeups = Wakeups(redis)
    principal = Principal("key_test", tenant.id, True, "admin")
    return WorkerHarness(
        WorkerContext(settings, pool, redis, wakeups, "tests"), LeadStore(pool, wakeups), principal
    )
