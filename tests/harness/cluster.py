"""One real PostgreSQL for the whole test run, with a migrated template for other databases.

xdist's controller (or the only process) starts PostgreSQL; the workers get its address. Each worker
has its own Valkey, because all databases of a Valkey share its channels and a test may flush it.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import asyncpg

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Postgres
from sql.migrate import migrate

TEMPLATE = "leadlog"

# Copies the rows that the migrations made into the template's schema `seed`.
_KEEP_SEEDS = """
DO $$
DECLARE each regclass; filled boolean;
BEGIN
    CREATE SCHEMA seed;
    FOR each IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace
        AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'schema_migration'
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', each) INTO filled;
        IF filled THEN
            EXECUTE format('CREATE TABLE seed.%I AS TABLE %s',
                (SELECT relname FROM pg_class WHERE oid = each), each);
        END IF;
    END LOOP;
END $$
"""
# Runs as superuser: without foreign keys it fills the tables in any order.
_RESET = """
DO $$
DECLARE each record;
BEGIN
    SET LOCAL session_replication_role = replica;  -- no foreign keys, no triggers
    SET LOCAL lock_timeout = '5s';
    -- Not TRUNCATE: it makes new files for every partition and index.
    FOR each IN SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
        AND relname <> 'schema_migration'
    LOOP
        EXECUTE format('DELETE FROM %s', each.name);
    END LOOP;
    FOR each IN SELECT c.relname AS name, string_agg(quote_ident(a.attname), ', ') AS columns
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = format('public.%I', c.relname)::regclass
        WHERE c.relnamespace = 'seed'::regnamespace AND c.relkind = 'r'
        AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        GROUP BY c.relname
    LOOP
        EXECUTE format('INSERT INTO public.%I (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM seed.%I',
            each.name, each.columns, each.columns, each.name);
    END LOOP;
END $$
"""
# Without this a copy of the template would seem to be a restored log.
_SETTLE = "UPDATE log_home SET place = log_place(), txid = pg_current_xact_id()"


@dataclass(frozen=True)
class Cluster:
    """The address of the run's PostgreSQL, and the databases made in it."""

    folder: str
    address: str
    """A DSN with `{user}` and `{database}` to fill in."""
    worker: str = "main"
    _numbers: Iterator[int] = field(default_factory=count, compare=False)

    def dsn_of(self, database: str, user: str = "leadlog") -> str:
        return self.address.format(user=user, database=database)

    @asynccontextmanager
    async def make_database(self, template: str = TEMPLATE) -> AsyncIterator[str]:
        """Makes a new database and yields its DSN; with `template0` it is empty."""
        name = f"test_{self.worker}_{next(self._numbers)}"
        admin = await asyncpg.connect(self.dsn_of("postgres", "postgres"))
        try:
            await admin.execute(f"CREATE DATABASE {name} OWNER leadlog TEMPLATE {template}")
            if template == TEMPLATE:
                await self._settle(name)
            yield self.dsn_of(name)
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await admin.close()

    async def _settle(self, name: str) -> None:
        own = await asyncpg.connect(self.dsn_of(name, "postgres"))
        await own.execute(_SETTLE)
        await own.close()


class RunningCluster:
    """The server process, held by the process that started the test run."""

    def __init__(self) -> None:
        self._folder = prepare_folder(Path(tempfile.mkdtemp(prefix="leadlog-test-")))
        self._postgres = Postgres(self._folder, durable=False)
        asyncio.run(self._start())
        self.folder = str(self._folder)
        self.address = self._postgres.dsn_of("{user}", "{database}")

    async def _start(self) -> None:
        await self._postgres.start()
        await migrate(self._postgres.dsn)
        admin = await asyncpg.connect(self._postgres.dsn_of("postgres", TEMPLATE))
        await admin.execute(_KEEP_SEEDS)
        await admin.close()

    def stop(self) -> None:
        asyncio.run(self._postgres.stop())
        shutil.rmtree(self._folder)


async def reset_database(admin: asyncpg.Connection) -> None:
    """Empties all tables and restores the rows that the migrations made."""
    await admin.execute(_RESET)
    await admin.execute(_SETTLE)
