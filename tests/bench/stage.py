"""The servers of a bench: our own PostgreSQL and Valkey, and a filled database for each size."""

import asyncio
import hashlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

import sql
from service.access.api_keys import create_key
from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.first_key import ensure_tenant
from service.cli.dev.folder_lock import lock_folder
from service.cli.dev.servers import Postgres, Valkey
from service.cli.dev.supervisor import PROJECT
from service.cli.processes import Child
from sql.connection import connect
from sql.migrate import migrate
from tests.bench import fill
from tests.bench.fill import fill_leads
from tests.bench.load.pgbench import SEQUENCE

STOP_GRACE_S = 6.0
TENANT = "bench"
"""The name of the tenant and of its plan, whose limits are counted but too high to reach."""
MANY = 2_000_000_000
MIGRATIONS = PROJECT / "sql" / "migrations"


@dataclass(frozen=True)
class Database:
    """A database filled with `leads` leads."""

    leads: int
    dsn: str
    tenant_id: int
    key: str = field(repr=False)


@dataclass
class Stage:
    """Everything that one run of the bench has started."""

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
    """Remarks for readers of the figures, such as what was left out and why."""

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)


@asynccontextmanager
async def set_stage(
    parent: Path,
    sizes: Sequence[int],
    environ: Mapping[str, str],
    say: Callable[[str], None],
    *,
    keep: bool = False,
) -> AsyncIterator[Stage]:
    """Starts the servers in a new folder inside `parent`; the new folder is removed afterwards.

    With `keep` they run in `parent` itself, where filled tables stay for the next run.
    """
    async with AsyncExitStack() as stack:
        if keep:
            folder = parent
            stack.enter_context(lock_folder(folder, say))
        else:
            temporary = tempfile.TemporaryDirectory(prefix="bench-", dir=parent)
            folder = prepare_folder(Path(stack.enter_context(temporary)))
        say("Starting PostgreSQL and Valkey.")
        postgres = await stack.enter_async_context(Postgres(folder))
        valkey = await stack.enter_async_context(Valkey(folder))
        stage = Stage(folder, environ, say, postgres, valkey)
        admin = await asyncpg.connect(postgres.dsn_of("postgres", "postgres"))
        stack.push_async_callback(admin.close)
        for size in sizes:
            stage.databases[size] = await make_database(stage, admin, size, keep=keep)
        await admin.execute("CHECKPOINT")  # else the first rounds would be slower
        stack.push_async_callback(stop_children, stage)
        yield stage


async def make_database(
    stage: Stage, admin: asyncpg.Connection, leads: int, *, keep: bool
) -> Database:
    """A migrated database with `leads` leads of one tenant; with `keep`, a copy of a kept one."""
    name = f"bench_{leads}"
    dsn = stage.postgres.dsn_of("leadlog", name)
    await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    kept = f"filled_{leads}_{digest_fill()}"
    if not keep or not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", kept):
        await admin.execute(f"CREATE DATABASE {name} OWNER leadlog")
        await fill_database(stage, dsn, leads)
        if keep:
            await admin.execute(f"ALTER DATABASE {name} RENAME TO {kept}")
    if keep:
        source = f"TEMPLATE {kept} STRATEGY file_copy"
        await admin.execute(f"CREATE DATABASE {name} OWNER leadlog {source}", timeout=300)
    async with connect(dsn) as conn:
        tenant_id = await ensure_tenant(conn, TENANT)
        key = await create_key(conn, tenant_id, True, "bench", "admin")
        await conn.execute(sql.plan_save, TENANT, MANY, MANY, MANY, ["POST"], ["/leads"], [MANY])
        await conn.execute(sql.tenant_set_plan, TENANT, TENANT)
    return Database(leads, dsn, tenant_id, key.key)


async def fill_database(stage: Stage, dsn: str, leads: int) -> None:
    began = time.monotonic()
    stage.say(f"Filling {leads:,} leads.")
    await migrate(dsn)
    async with connect(dsn) as conn:
        await conn.execute(SEQUENCE)
        await fill_leads(conn, await ensure_tenant(conn, TENANT), leads)
    stage.say(f"Filled {leads:,} leads in {time.monotonic() - began:.0f} s.")


def digest_fill() -> str:
    """A digest of fill.py and the migrations; kept databases with another digest are not reused."""
    files = (Path(fill.__file__), *sorted(MIGRATIONS.glob("*.sql")))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


async def stop_children(stage: Stage) -> None:
    await asyncio.gather(*(child.stop([signal.SIGTERM], STOP_GRACE_S) for child in stage.children))
