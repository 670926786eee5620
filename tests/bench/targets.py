"""The servers that are measured, each with the command line and environment of production."""

import asyncio
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec

from service.cli.dev.first_key import ensure_secret_key
from service.cli.dev.readiness import is_ready
from service.cli.dev.server_logs import read_reason
from service.cli.launch import build_command
from service.cli.processes import Child
from tests.bench.against.tree import OURS, Tree
from tests.bench.plan import Contestant
from tests.bench.programs import LoadError
from tests.bench.stage import Database, Stage

READY_WITHIN_S = 60.0
READY_POLL_S = 0.05
PEER_NEEDS = ("fastapi", "sqlalchemy", "orjson")
NO_PEER = (
    "The peer is left out: it needs the packages of the extra `bench` "
    "(pip install 'leadlog[bench]')."
)


class Server(msgspec.Struct, frozen=True):
    """The URL of a server, an API key for it, and the number of leads in its database."""

    url: str
    key: str
    leads: int


@dataclass(frozen=True)
class Target:
    """A running server and the database behind it."""

    url: str
    database: Database
    child: Child
    log: Path

    @property
    def server(self) -> Server:
        return Server(self.url, self.database.key, self.database.leads)


Targets = dict[tuple[Contestant, int], Target]
"""By contestant and number of leads."""


async def start_targets(stage: Stage, wanted: Iterable[tuple[Contestant, int]]) -> Targets:
    """Starts the wanted servers; returns when all are ready."""
    targets: Targets = {}
    for contestant, leads in wanted:
        database = stage.databases[leads]
        is_peer = contestant == "peer-1"
        if contestant != "pgbench" and (not is_peer or await prepare_peer(stage, database)):
            targets[contestant, leads] = start_target(stage, contestant, database)
    for target in targets.values():
        await wait_until_ready(target)
    return targets


async def prepare_peer(stage: Stage, database: Database) -> bool:
    """Makes the peer's tables; False if its packages are missing."""
    if not all(find_spec(name) for name in PEER_NEEDS):
        stage.note(NO_PEER)
        return False
    from tests.bench.peer.app import create_engine  # noqa: PLC0415  # its packages are optional
    from tests.bench.peer.tables import make_tables  # noqa: PLC0415

    engine = create_engine(database.dsn)
    await make_tables(engine)
    await engine.dispose()
    return True


def start_target(stage: Stage, contestant: Contestant, database: Database) -> Target:
    app, processes = contestant.split("-")
    port = find_free_port()
    if app == "service":
        address = ["--host", "127.0.0.1", "--port", str(port), "--workers", processes]
        arguments = ["service.cli.main", "serve", *address]
    else:
        module = "peer.app" if app == "peer" else app
        arguments = ["tests.bench.serve", module, str(port), processes]
    name = f"{contestant}-{database.leads}"
    child = start_child(stage, name, arguments, database)
    return Target(f"http://127.0.0.1:{port}", database, child, stage.folder / f"{name}.log")


def start_workers(stage: Stage, database: Database) -> None:
    """Starts `leadlog work` beside the servers."""
    arguments = ["service.cli.main", "work"]
    start_child(stage, f"work-{database.leads}", arguments, database)


def start_child(
    stage: Stage, name: str, arguments: list[str], database: Database, tree: Tree = OURS
) -> Child:
    """Starts a process in the environment that `leadlog dev` gives it; its log goes to a file."""
    env = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(tree.root),
        "SECRET_KEY": ensure_secret_key(stage.folder / "secret.key"),
        **stage.environ,
        "DATABASE_URL": database.dsn,
        "REDIS_URL": stage.valkey.url,
        "DATA_DIR": str(stage.folder),
    }
    argv = build_command([str(tree.python), "-P", "-m", *arguments], signal.SIGTERM)
    child = Child(argv, cwd=stage.folder, env=env, log=stage.folder / f"{name}.log")
    stage.children.append(child)
    return child


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def wait_until_ready(target: Target) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    host, port = target.url.removeprefix("http://").split(":")
    while not await is_ready(host, int(port)):
        if target.child.poll() is not None or time.monotonic() > deadline:
            raise LoadError(f"{target.log.stem} did not come up: {read_reason(target.log)}.")
        await asyncio.sleep(READY_POLL_S)
