"""What takes part: PostgreSQL and Valkey of our own, and a filled database for each size."""

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from service.datafolder import prepare_folder
from service.first_key import ensure_tenant
from service.keys import create_key
from service.processes import Child
from service.servers import Postgres, Valkey
from sql.connection import connect
from sql.migrate import migrate
from tests.bench.fill import fill_leads
from tests.bench.pgbench import SEQUENCE

STOP_GRACE_S = 6.0


@dataclass(frozen=True)
class Database:
    """One size of table."""

    leads: int
    dsn: str
    tenant_id: int
    key: str = field(repr=False)


@dataclass
class Stage:
    """What one run of the bench has started."""

    folder: Path
    environ: Mapping[str, str]
    """Settings for the service beyond its defaults."""
    say: Callable[[str], None]
    postgres: Postgres
    valkey: Valkey
    databases: dict[int, Database] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)
    """Processes that end with the stage."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why; whatever a reader of the figures should know."""

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)


@asynccontextmanager
async def set_stage(
    parent: Path, sizes: Sequence[int], environ: Mapping[str, str], say: Callable[[str], None]
) -> AsyncIterator[Stage]:
    """Starts the servers in a new folder inside `parent`; afterwards nothing of it is left."""
    async with AsyncExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=parent))
        folder = prepare_folder(Path(name))
        say("Starting PostgreSQL and Valkey.")
        postgres = await stack.enter_async_context(Postgres(folder))
        valkey = await stack.enter_async_context(Valkey(folder))
        stage = Stage(folder, environ, say, postgres, valkey)
        for size in sizes:
            stage.databases[size] = await make_database(stage, size)
        stack.push_async_callback(stop_children, stage)
        yield stage


async def make_database(stage: Stage, leads: int) -> Database:
    """A migrated database with so many leads of one tenant."""
    name = f"bench_{leads}"
    dsn = stage.postgres.dsn_of("leadlog", name)
    began = time.monotonic()
    admin = await asyncpg.connect(stage.postgres.dsn_of("postgres", "postgres"))
    try:
        await admin.execute(f"CREATE DATABASE {name} OWNER leadlog")
        await migrate(dsn)
        async with connect(dsn) as conn:
            tenant_id = await ensure_tenant(conn, "bench")
            key = await create_key(conn, tenant_id, True, "bench", "admin")
            await conn.execute(SEQUENCE)
            stage.say(f"Filling {leads:,} leads.")
            await fill_leads(conn, tenant_id, leads)
        await admin.execute("CHECKPOINT")  # or the first rounds would pay for it
    finally:
        await admin.close()
    stage.say(f"Filled {leads:,} leads in {time.monotonic() - began:.0f} s.")
    return Database(leads, dsn, tenant_id, key.key)


async def stop_children(stage: Stage) -> None:
    await asyncio.gather(*(child.stop([signal.SIGTERM], STOP_GRACE_S) for child in stage.children))
