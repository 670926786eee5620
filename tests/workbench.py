"""Leads written as the API writes them, and workers driven turn by turn."""

from dataclasses import dataclass
from typing import Protocol

import asyncpg
from redis.asyncio import Redis

from service.auth import Principal
from service.db import Pool
from service.leads.store import LeadStore
from service.models import LeadPatch, NewLead
from service.settings import Settings
from service.validation import decode_body
from service.wakeups import Wakeups
from tests.factories import make_tenant
from workers.slices import Workshop
from workers.ticker import Ticker


class Actor(Protocol):
    async def once(self) -> int: ...


@dataclass(frozen=True)
class Workbench:
    """One tenant's leads, and what workers need."""

    shop: Workshop
    leads: LeadStore
    who: Principal

    @property
    def pool(self) -> Pool:
        return self.shop.pool

    async def capture(self, body: str) -> str:
        """The id of a new lead, from a request body."""
        made = await self.leads.capture(self.who, decode_body(body.encode(), NewLead))
        return str(made.location).rpartition("/")[2]

    async def patch(self, lead_id: str, body: str) -> None:
        await self.leads.update(self.who, lead_id, decode_body(body.encode(), LeadPatch))

    async def delete(self, lead_id: str) -> None:
        await self.leads.delete(self.who, lead_id)

    async def drain(self, *actors: Actor) -> None:
        """Cuts windows and lets the actors work until nothing is left to do."""
        ticker = Ticker(self.shop)
        while sum([await actor.once() for actor in (ticker, *actors)]):
            pass

    async def row(self, lead_id: str) -> asyncpg.Record:
        found = await self.pool.fetchrow(
            "SELECT score, score_factors, score_rules, scored_at, score_stale_at, version, "
            "updated_at, last_active_at, xmin::text FROM lead WHERE id = $1",
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


async def make_workbench(pool: Pool, settings: Settings, redis: Redis) -> Workbench:
    """For a new tenant. Wake-ups are sent nowhere: turns are taken by hand."""
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    wakeups = Wakeups(redis)
    who = Principal("key_test", tenant.id, True, "admin")
    return Workbench(
        Workshop(settings, pool, redis, wakeups, "tests"), LeadStore(pool, wakeups), who
    )
