"""The servers of one measured tree: PostgreSQL and Valkey, and for each run a fresh database.

Every run begins with a copy of the same filled database, an empty Valkey, and new processes, so no
run inherits the vacuum, the backlog or the caches of another.
"""

import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from redis.asyncio import Redis

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.server_programs import find_postgres_programs
from service.cli.dev.servers import Postgres, Valkey
from service.cli.processes import Child
from tests.bench.against.tree import Tree
from tests.bench.programs import LoadError, run_program
from tests.bench.stage import STOP_GRACE_S, Database, Stage
from tests.bench.targets import Target, find_free_port, start_child, wait_until_ready

FILLED, RUN = "bench_filled", "bench_run"
FILL_S = 600.0
STATEMENTS_LIBRARY = "pg_stat_statements"
NO_STATEMENTS = (
    f"This PostgreSQL has no {STATEMENTS_LIBRARY}: no statements per lead, no planning time."
)
_SCRIPT = Path(__file__).with_name("in_tree.py")


class BenchPostgres(Postgres):
    """PostgreSQL with further settings, which come after those of `leadlog dev`."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        super().__init__(data_dir)
        self._settings = settings

    def arguments(self) -> list[str]:
        extra = [part for pair in self._settings.items() for part in ("-c", "=".join(pair))]
        return [*super().arguments(), *extra]


@dataclass(frozen=True, eq=False)
class Side:
    """One measured tree and its servers."""

    tree: Tree
    stage: Stage
    admin: asyncpg.Connection
    """A superuser's connection to the database `postgres`."""
    key: str
    leads: int
    statements: Mapping[str, str]
    """The tree's own statements by name."""
    has_statements: bool


@dataclass(frozen=True)
class Running:
    """The processes of one run."""

    side: Side
    api: Target
    worker: Child
    conn: asyncpg.Connection
    """A superuser's connection to the database of the run."""


@asynccontextmanager
async def open_side(
    tree: Tree, parent: Path, leads: int, say: Callable[[str], None], *, inner: bool
) -> AsyncIterator[Side]:
    """Starts the servers of a tree and fills the database that each run copies.

    With `inner`, pg_stat_statements also counts the statements inside of functions.
    """
    folder = prepare_folder(parent / tree.name.replace("/", "-"))
    told = await run_in_tree(tree, "describe")
    if Path(told["root"]).parent != tree.root:
        raise LoadError(f"The tree {tree.name} ran the code of {told['root']}.")
    has_statements = is_statements_library_present()
    if not has_statements:
        say(NO_STATEMENTS)
    settings = told["settings"] | (choose_statement_settings(inner) if has_statements else {})
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(BenchPostgres(folder, settings))
        valkey = await stack.enter_async_context(Valkey(folder))
        admin = await asyncpg.connect(postgres.dsn_of("postgres", "postgres"))
        stack.push_async_callback(admin.close)
        if has_statements:
            await admin.execute(f"CREATE EXTENSION {STATEMENTS_LIBRARY}")
        await admin.execute(f"CREATE DATABASE {FILLED} OWNER leadlog")
        say(f"Filling {leads:,} leads of {tree.name}.")
        filled = await run_in_tree(tree, "fill", postgres.dsn_of("leadlog", FILLED), str(leads))
        environ = {"WEBHOOK_ALLOW_PRIVATE": "true"}
        stage = Stage(folder, environ, say, postgres, valkey)
        yield Side(
            tree, stage, admin, filled["key"], leads, told["statements"], has_statements
        )  # fmt: skip


@asynccontextmanager
async def run_processes(side: Side) -> AsyncIterator[Running]:
    """Copies the filled database, and runs one API process and one worker process on it.

    The copy is removed at the end: its vacuum would disturb the run of another tree.
    """
    stage = side.stage
    await side.admin.execute(
        f"CREATE DATABASE {RUN} TEMPLATE {FILLED} OWNER leadlog STRATEGY file_copy", timeout=300
    )
    async with Redis.from_url(stage.valkey.url) as redis:
        await redis.flushall()
    database = Database(side.leads, stage.postgres.dsn_of("leadlog", RUN), 0, side.key)
    port = find_free_port()
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    conn = await asyncpg.connect(stage.postgres.dsn_of("postgres", RUN))
    children: list[Child] = []
    try:
        for name, arguments in (("serve", address), ("work", [])):
            command = ["service.cli.main", name, *arguments]
            children.append(start_child(stage, name, command, database, side.tree))
        api = Target(f"http://127.0.0.1:{port}", database, children[0], stage.folder / "serve.log")
        await wait_until_ready(api)
        yield Running(side, api, children[1], conn)
    finally:
        for child in children:
            await child.stop([signal.SIGTERM], STOP_GRACE_S)
        await conn.close()
        await side.admin.execute(f"DROP DATABASE IF EXISTS {RUN} WITH (FORCE)", timeout=300)


async def run_in_tree(tree: Tree, *arguments: str) -> Any:
    """The reply of in_tree.py, which imports the tree's code."""
    environ = {"PYTHONPATH": str(tree.root)}
    output = await run_program(
        [tree.python, "-P", _SCRIPT, *arguments], FILL_S, environ, cwd=tree.root
    )
    return msgspec.json.decode(output.strip().splitlines()[-1])


def is_statements_library_present() -> bool:
    """Whether the embedded PostgreSQL can load pg_stat_statements."""
    root = find_postgres_programs().parent
    return any(root.glob(f"**/{STATEMENTS_LIBRARY}.so")) and any(
        root.glob(f"**/{STATEMENTS_LIBRARY}.control")
    )


def choose_statement_settings(inner: bool) -> dict[str, str]:
    return {
        "shared_preload_libraries": STATEMENTS_LIBRARY,
        f"{STATEMENTS_LIBRARY}.track": "all" if inner else "top",
        f"{STATEMENTS_LIBRARY}.track_planning": "on",
    }
