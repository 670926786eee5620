"""A whole Leadlog under load, for injecting faults: servers, worker processes, a writer."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.cli.dev.servers import Postgres, Valkey
from service.database.connect import DATABASE_AWAY, Pool
from service.encryption import open_encryptor
from service.errors import Unavailable
from service.settings import Settings
from service.webhooks.endpoints import NewEndpoint, create_endpoint
from tests.faults.ledger import Ledger, Outcome, Seen
from tests.harness.worker_harness import WorkerHarness
from tests.loopback.receiver import run_receiver

TYPES = ["lead.created", "lead.updated", "lead.qualified"]
Say = Callable[[str], None]


@dataclass
class FaultServers:
    """Servers that may be killed."""

    postgres: Postgres
    valkey: Valkey
    settings: Settings
    folder: Path


@dataclass
class Plan:
    """The settings of a run; `hurry` expires the leases of dead processes at once."""

    faults: int
    hurry: bool
    away_s: float
    pause_s: float = 0.5
    refuse: float = 0.0
    patience_s: float = 90.0


@dataclass
class FaultHarness:
    """The running system into which a fault is injected."""

    servers: FaultServers
    plan: Plan
    bench: WorkerHarness
    ledger: Ledger
    say: Say
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)
    written: Counter[str] = field(default_factory=Counter)
    """The number of acknowledged writes by lead, counted by the writer."""

    @property
    def pool(self) -> Pool:
        return self.bench.pool

    async def start_worker(self) -> asyncio.subprocess.Process:
        """Starts `leadlog work`; its log is worker-PID.log in the servers' folder."""
        settings = self.servers.settings
        environ = os.environ | {
            "DATABASE_URL": settings.require_database_url(),
            "REDIS_URL": settings.require_redis_url(),
            "SECRET_KEY": settings.secret_key or "",
            "WEBHOOK_ALLOW_PRIVATE": "true", "WEBHOOK_TIMEOUT_S": "2", "LOG_LEVEL": "info",
        }  # fmt: skip
        path = self.servers.folder / "worker.log"
        with path.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "service.cli.main",
                "work",
                env=environ,
                stdout=out,
                stderr=out,
            )
        path.rename(self.servers.folder / f"worker-{process.pid}.log")
        self.workers.append(process)
        return process

    def read_log(self, pid: int) -> list[dict[str, Any]]:
        """The complete lines; the worker may be writing the last one."""
        complete, _, _ = (self.servers.folder / f"worker-{pid}.log").read_text().rpartition("\n")
        return [json.loads(line) for line in complete.splitlines() if line.startswith("{")]

    async def find_dispatcher(self) -> asyncio.subprocess.Process:
        """The worker process that runs the dispatcher."""

        async def look() -> asyncio.subprocess.Process | None:
            owner = await self.pool.fetchval(
                "SELECT owner FROM lease WHERE name = 'dispatcher/0' AND expires_at > now()"
            )
            pid = int(owner.split("/")[1]) if owner else 0
            return next((w for w in self.workers if w.pid == pid and w.returncode is None), None)

        found: asyncio.subprocess.Process = await self.wait_for(look, "dispatcher")
        return found

    async def progress(self, count: int) -> None:
        """Returns once `count` more events have been accepted."""
        wanted = len(self.ledger.accepted) + count

        async def look() -> bool:
            return len(self.ledger.accepted) >= wanted

        await self.wait_for(look, f"{count} more events")

    async def count_in_flight(self) -> int:
        found: int = await self.pool.fetchval(
            "SELECT count(*) FROM delivery WHERE leased_until > now()"
        )
        return found

    async def expire_leases(self, pid: int) -> int:
        """Counts deliveries in flight; `hurry` ends their leases and the job leases of `pid`."""
        in_flight = await self.count_in_flight()
        if self.plan.hurry:
            await self.pool.execute(
                "UPDATE delivery SET leased_until = now() - interval '1 second' "
                "WHERE leased_until IS NOT NULL"
            )
            await self.pool.execute(
                "UPDATE lease SET expires_at = now() WHERE owner LIKE $1", f"%/{pid}/%"
            )
        return in_flight

    async def wait_for(
        self, look: Callable[[], Awaitable[Any]], what: str, poll_s: float = 0.02
    ) -> Any:
        """Polls `look` and returns its first true result; the database may be down meanwhile."""
        begun = time.monotonic()
        while True:
            with suppress(*DATABASE_AWAY):
                if found := await look():
                    return found
            assert time.monotonic() - begun < self.plan.patience_s, (
                f"no {what}; {len(self.ledger.accepted)} accepted"
            )
            await asyncio.sleep(poll_s)

    async def write_forever(self) -> None:
        """Writes new leads and changes of known ones, a few at a time, in spite of all faults."""
        number = 0
        while True:
            number += 1
            with suppress(*DATABASE_AWAY, Unavailable):
                await asyncio.gather(*(self._write(f"{number}-{n}") for n in range(2)))
            await asyncio.sleep(0.02)

    async def _write(self, number: str) -> None:
        if len(self.written) < 10 or random.random() < 0.4:
            lead_id = await self.bench.capture(f'{{"email": "{number}@example.com"}}')
        else:
            lead_id = random.choice(list(self.written))
            await self.bench.patch(lead_id, f'{{"name": "{number}"}}')
        self.written[lead_id] += 1

    async def list_wanted(self) -> set[Seen]:
        rows = await self.pool.fetch(
            "SELECT lead_id, version FROM outbox WHERE tenant_id = $1 AND type = ANY ($2)",
            self.bench.principal.tenant_id, TYPES,
        )  # fmt: skip
        return {(row["lead_id"], row["version"]) for row in rows}

    async def wait_until_quiet(self) -> set[Seen]:
        """All events, once all are delivered and no more come."""
        found: list[set[Seen]] = [set()]

        async def look() -> bool:
            found.append(await self.list_wanted())
            if found[-1] - set(self.ledger.accepted) or found[-1] != found[-2]:
                return False
            return not await self.pool.fetchval("SELECT EXISTS (SELECT FROM delivery)")

        await self.wait_for(look, "end", 0.25)
        return found[-1]

    def find_unlogged(self, wanted: set[Seen]) -> list[str]:
        """The leads with acknowledged writes that are not in the log."""
        logged = Counter(lead for lead, _ in wanted)
        return [lead for lead, count in self.written.items() if logged[lead] < count]


Fault = Callable[[FaultHarness], Awaitable[int]]
"""Injects a fault; returns the number of duplicates that it may cause."""


async def run_faults(
    servers: FaultServers, bench: WorkerHarness, plan: Plan, title: str, fault: Fault, say: Say
) -> Outcome:
    """Runs two workers (one in reserve) under load, injects the fault and checks the outcome."""
    ledger = Ledger(refuse=plan.refuse)
    harness = FaultHarness(servers, plan, bench, ledger, say)
    begun = time.monotonic()
    async with run_receiver(ledger.answer) as receiver, _endpoint(harness, receiver.url):
        writer = asyncio.create_task(harness.write_forever())
        try:
            for _ in range(2):
                await harness.start_worker()
            await harness.progress(50)
            bound = await fault(harness)
            await harness.progress(50)
            writer.cancel()
            wanted = await harness.wait_until_quiet()
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await end_workers(harness.workers)
    assert harness.find_unlogged(wanted) == []
    outcome = ledger.compare(title, plan.faults, wanted, bound)
    outcome.seconds = time.monotonic() - begun
    say(str(outcome))
    return outcome


@asynccontextmanager
async def _endpoint(harness: FaultHarness, url: str) -> AsyncIterator[None]:
    async with harness.pool.acquire() as conn, conn.transaction():
        new = NewEndpoint(url=url, events=list(TYPES))  # type: ignore[arg-type]  # known types
        made = await create_endpoint(
            conn,
            open_encryptor(harness.servers.settings),
            harness.bench.principal.tenant_id,
            True,
            new,
        )
    try:
        yield
    finally:
        await harness.pool.execute("DELETE FROM endpoint WHERE id = $1", made.id)
        await harness.pool.execute("DELETE FROM delivery WHERE endpoint_id = $1", made.id)


async def end_workers(workers: list[asyncio.subprocess.Process]) -> None:
    for worker in workers:
        if worker.returncode is None:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
                worker.kill()
        await worker.wait()
