"""One of several processes that write the same leads and e-mails as fast as they can.

`python -m tests.faults.writer DSN REDIS TENANT SECONDS NUMBER LEAD…` prints, as JSON, the number of
outcomes of each kind of write. For each lead it also prints how often this process increased the
field `count`, which all processes share, and the latest value of this process's own field.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter

import msgspec
from redis.asyncio import Redis

from service.access.authentication import Principal
from service.database.connect import create_pool
from service.errors import Problem
from service.events.wake_ups import Wakeups
from service.leads.etags import parse_if_match
from service.leads.models import LeadPatch, NewLead
from service.leads.store import LeadStore
from service.settings import Settings

HANDS = 60
"""The number of concurrent tasks in each process."""
ADDRESSES = 12
"""Fewer addresses than tasks, so that the tasks always compete for the same addresses."""


class Writer:
    """The common state of all tasks of one process."""

    def __init__(self, leads: LeadStore, who: Principal, name: str, targets: list[str]) -> None:
        self.leads = leads
        self.who = who
        self.name = name
        self.targets = targets
        self.outcomes: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()
        """By lead: how often this process has increased the shared field `count`, with If-Match."""
        self.latest: dict[str, int] = dict.fromkeys(targets, 0)
        """By lead: the latest value of this process's own custom field."""

    async def run(self, ends_at: float, rng: random.Random) -> None:
        acts = [self.create, self.take_address, self.count_up, self.count_up, self.write_own]
        while time.monotonic() < ends_at:
            act = rng.choice(acts)
            try:
                await act(rng)
                outcome = "done"
            except Problem as problem:
                outcome = problem.code
            self.outcomes[f"{act.__name__}: {outcome}"] += 1

    async def create(self, rng: random.Random) -> None:
        """Creates a lead with one of the addresses and deletes it at once."""
        made = await self.leads.capture(self.who, NewLead(email=make_address(rng)))
        lead_id = msgspec.json.decode(made.body)["id"]
        await self.leads.delete(self.who, lead_id)

    async def take_address(self, rng: random.Random) -> None:
        patch = LeadPatch(email=make_address(rng))
        await self.leads.update(self.who, rng.choice(self.targets), patch)

    async def count_up(self, rng: random.Random) -> None:
        lead_id = rng.choice(self.targets)
        found = await self.leads.get(self.who, lead_id)
        count = msgspec.json.decode(found.body or b"")["customFields"].get("count", 0)
        patch = LeadPatch(custom_fields={"count": count + 1})
        await self.leads.update(self.who, lead_id, patch, parse_if_match(found.etag))
        self.counted[lead_id] += 1

    async def write_own(self, rng: random.Random) -> None:
        """Writes the process's own field: a process's patches of one lead must keep their order."""
        lead_id = rng.choice(self.targets)
        self.latest[lead_id] += 1
        patch = LeadPatch(custom_fields={self.name: self.latest[lead_id]})
        await self.leads.update(self.who, lead_id, patch)


def make_address(rng: random.Random) -> str:
    return f"collide{rng.randrange(ADDRESSES)}@example.com"


async def main(dsn: str, redis: str, tenant: str, seconds: str, number: str, *ids: str) -> None:
    async with await create_pool(Settings(database_url=dsn), "writer") as pool:
        client = Redis.from_url(redis)
        who = Principal("key_writer", int(tenant), True, "admin")
        writer = Writer(LeadStore(pool, Wakeups(client)), who, f"by{number}", list(ids))
        ends_at = time.monotonic() + float(seconds)
        async with asyncio.TaskGroup() as hands:
            for hand in range(HANDS):
                hands.create_task(writer.run(ends_at, random.Random(f"{number} {hand}")))
        await client.aclose()
    found = {"outcomes": writer.outcomes, "counted": writer.counted, "latest": writer.latest}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
