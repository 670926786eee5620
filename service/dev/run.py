"""`leadlog dev`: the whole of Leadlog in the foreground, from an empty folder to ready.

Its own PostgreSQL and Valkey (unless DATABASE_URL and REDIS_URL name others), migrations, a first
admin key, the API and the workers. It stops all of them within STOP_WITHIN_S.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import sql
from service.address import check_port
from service.dev.addresses import remove_addresses, write_addresses
from service.dev.datafolder import prepare_folder
from service.dev.first_key import ensure_admin_key, ensure_secret_key
from service.dev.folderlock import FolderLock, lock_folder
from service.dev.readiness import wait_until_ready
from service.dev.servers import Postgres, Valkey
from service.dev.supervisor import (
    Command,
    Part,
    force_exit,
    keep_running,
    stop_all,
)
from service.dev.welcome import Announcer
from service.settings import Settings
from sql.connection import connect
from sql.migrate import migrate

STOP_WITHIN_S = 9.0
# The servers stop after the API and the workers, and must have some of the time.
CHILD_GRACE_S = 6.0


@dataclass
class Dev:
    """What one run knows."""

    settings: Settings
    environ: Mapping[str, str]
    folder: Path
    lock: FolderLock
    announcer: Announcer
    is_stopping: bool = False


def run_dev(settings: Settings, environ: Mapping[str, str], announcer: Announcer) -> None:
    """Runs until a signal ends it; StartError, DatabaseError and SettingsError say why not."""
    folder = prepare_folder(settings.data_dir)
    with lock_folder(folder, announcer.say) as lock:
        check_port(settings.host, settings.port)
        asyncio.run(_run(Dev(settings, environ, folder, lock, announcer)))


async def _run(dev: Dev) -> None:
    _stop_on_signals(dev)
    try:
        async with _run_servers(dev) as (database_url, redis_url, servers):
            for name in await migrate(database_url):
                dev.announcer.say(f"Migrated: {name}.")
            if dev.settings.database_url is None:
                await free_leases(database_url)
            key = await ensure_admin_key(database_url, dev.folder / "admin.key")
            write_addresses(dev.folder, database_url, redis_url)
            env = _make_environment(dev, database_url, redis_url)
            async with _run_commands(dev, env) as commands:
                await wait_until_ready(dev.settings, database_url, commands)
                dev.announcer.welcome(dev.settings, dev.folder / "admin.key", key)
                await _keep_all_running(dev, [*servers, *commands])
    except asyncio.CancelledError:
        if not dev.is_stopping:
            raise
        dev.announcer.say("Leadlog has stopped.")


async def free_leases(database_url: str) -> None:
    """Takes from the workers of a killed run what they cannot give back themselves."""
    async with connect(database_url) as conn:
        await conn.execute(sql.lease_delete_all)


def _stop_on_signals(dev: Dev) -> None:
    """The first signal stops all in order, the second one at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def stop() -> None:
        if dev.is_stopping or task is None:
            force_exit()
        dev.is_stopping = True
        dev.lock.mark_stopping()
        task.cancel()
        dev.announcer.say("Stopping; once more Ctrl-C stops at once.")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup has SIGHUP ignored, and means it.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stop)


@asynccontextmanager
async def _run_servers(dev: Dev) -> AsyncIterator[tuple[str, str, list[Part]]]:
    """The addresses of database and Redis, and those of the two that are our own."""
    servers: list[Part] = []
    database_url, redis_url = dev.settings.database_url, dev.settings.redis_url
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stop_all, servers, STOP_WITHIN_S - CHILD_GRACE_S - 1)
        stack.callback(remove_addresses, dev.folder)
        if database_url is None:
            dev.announcer.say("Starting PostgreSQL.")
            postgres = Postgres(dev.folder)
            await postgres.start()
            servers.append(postgres)
            database_url = postgres.dsn
        if redis_url is None:
            dev.announcer.say("Starting Valkey.")
            valkey = Valkey(dev.folder)
            await valkey.start()
            servers.append(valkey)
            redis_url = valkey.url
        yield database_url, redis_url, servers


def _make_environment(dev: Dev, database_url: str, redis_url: str) -> dict[str, str]:
    """The environment of the API and the workers; what the user has set wins."""
    metrics = dev.folder / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(mode=0o700)
    ours = {
        "WEBHOOK_ALLOW_PRIVATE": "true",
        "LOG_FORMAT": "console" if dev.announcer.is_terminal else "json",
        **{name: value for name, value in dev.environ.items() if value.strip()},
        "HOST": dev.settings.host,
        "PORT": str(dev.settings.port),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DATA_DIR": str(dev.folder),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "DRAIN_S": "0",  # nobody balances load here
    }
    return {"SECRET_KEY": ensure_secret_key(dev.folder / "secret.key"), **ours}


@asynccontextmanager
async def _run_commands(dev: Dev, env: Mapping[str, str]) -> AsyncIterator[list[Command]]:
    address = ["--host", dev.settings.host, "--port", str(dev.settings.port)]
    commands = [
        Command("The API", ["serve", *address], env, dev.lock.fd),
        Command("The worker process", ["work"], env, dev.lock.fd),
    ]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stop_all, commands, CHILD_GRACE_S)
        for command in commands:
            await command.start()
        yield commands


async def _keep_all_running(dev: Dev, parts: list[Part]) -> None:
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(keep_running(part, dev.announcer.say))
