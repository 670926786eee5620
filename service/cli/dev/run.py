"""`leadlog dev`: runs all of Leadlog in the foreground, starting from an empty folder.

It starts PostgreSQL and Valkey (unless DATABASE_URL and REDIS_URL name other servers), migrates,
creates an admin key and starts the API and the workers. It stops all of them within STOP_WITHIN_S.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import sql
from service.cli.address import check_metrics_port, check_port
from service.cli.commands.addresses import remove_dev_addresses, write_dev_addresses
from service.cli.dev.console import DevConsole
from service.cli.dev.data_folder import (
    explain_file_errors,
    make_empty_folder,
    prepare_folder,
)
from service.cli.dev.first_key import choose_secret_key, ensure_admin_key
from service.cli.dev.folder_lock import FolderLock, lock_folder
from service.cli.dev.readiness import wait_until_ready
from service.cli.dev.servers import Postgres, Valkey
from service.cli.dev.supervisor import (
    FIRST_PAUSE_S,
    Command,
    Part,
    force_exit,
    keep_running,
    start_with_retries,
    stop_all,
)
from service.cli.processes import KilledError
from service.database.connect import DATABASE_AWAY
from service.events.redis_ping import describe_redis, find_redis_fault
from service.settings import Settings
from sql.connection import connect
from sql.errors import DatabaseError
from sql.migrate import migrate

STOP_WITHIN_S = 9.0
# Less than STOP_WITHIN_S: the servers stop after the API and the workers.
CHILD_GRACE_S = 6.0


@dataclass
class DevRun:
    """The state of one run."""

    settings: Settings
    environ: Mapping[str, str]
    folder: Path
    lock: FolderLock
    console: DevConsole
    is_stopping: bool = False


def run_dev(settings: Settings, environ: Mapping[str, str], console: DevConsole) -> None:
    """Runs until a signal. Raises StartError, DatabaseError or SettingsError if it cannot start."""
    folder = prepare_folder(settings.data_dir)
    with explain_file_errors(folder), lock_folder(folder, console.report) as lock:
        check_port(settings.host, settings.port)
        check_metrics_port(settings.metrics_port, settings.host, settings.port)
        asyncio.run(_run(DevRun(settings, environ, folder, lock, console)))


async def _run(dev: DevRun) -> None:
    _stop_on_signals(dev)
    try:
        async with (
            _run_servers(dev) as (database_url, redis_url, servers),
            _keep_running(dev, servers),
        ):
            key, secret_key = await _prepare_database(dev, database_url)
            write_dev_addresses(dev.folder, database_url, redis_url, secret_key)
            await _report_redis_fault(dev)
            env = _make_environment(dev, database_url, redis_url, secret_key)
            async with _run_commands(dev, env) as commands, _keep_running(dev, commands):
                await wait_until_ready(dev.settings, database_url, commands)
                dev.console.report_ready(dev.settings, dev.folder / "admin.key", key)
                await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not dev.is_stopping:
            raise
        dev.console.report("Leadlog has stopped.")


async def _prepare_database(dev: DevRun, database_url: str) -> tuple[str, str]:
    """Migrates; returns the admin key and SECRET_KEY.

    Tries again if the embedded server is killed meanwhile.
    """
    while True:
        try:
            for name in await migrate(database_url):
                dev.console.report(f"Migrated: {name}.")
            if dev.settings.database_url is None:
                await delete_leases(database_url)
            report, folder = dev.console.report, dev.folder
            secret_key = await choose_secret_key(
                database_url, dev.settings, folder / "secret.key", report
            )
            return await ensure_admin_key(database_url, folder / "admin.key", report), secret_key
        except DatabaseError as error:
            if dev.settings.database_url or not isinstance(error.__cause__, DATABASE_AWAY):
                raise
            dev.console.report(str(error))
            await asyncio.sleep(FIRST_PAUSE_S)


async def _report_redis_fault(dev: DevRun) -> None:
    if dev.settings.redis_url and (reason := await find_redis_fault(dev.settings.redis_url)):
        dev.console.report(
            f"Redis on {describe_redis(dev.settings.redis_url)} cannot be reached ({reason}), so "
            "the CRM streams stand still until it can: check REDIS_URL and that Redis is running."
        )


async def delete_leases(database_url: str) -> None:
    """Deletes the leases that the workers of a killed run still hold."""
    async with connect(database_url) as conn:
        await conn.execute(sql.lease_delete_all)


def _stop_on_signals(dev: DevRun) -> None:
    """Stops gracefully on the first signal and at once on the second."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def stop() -> None:
        if dev.is_stopping or task is None:
            force_exit()
        dev.is_stopping = True
        dev.lock.mark_stopping()
        task.cancel()
        dev.console.report("Stopping; Ctrl-C again stops at once.")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup makes the process ignore SIGHUP: it must stay ignored.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stop)


@asynccontextmanager
async def _run_servers(dev: DevRun) -> AsyncIterator[tuple[str, str, list[Part]]]:
    """Yields the addresses of database and Redis, and the embedded servers that were started."""
    servers: list[Part] = []
    database_url, redis_url = dev.settings.database_url, dev.settings.redis_url
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stop_all, servers, STOP_WITHIN_S - CHILD_GRACE_S - 1)
        stack.callback(remove_dev_addresses, dev.folder)
        if database_url is None:
            dev.console.report("Starting PostgreSQL.")
            postgres = Postgres(dev.folder)
            await start_with_retries(postgres, dev.console.report, KilledError)
            servers.append(postgres)
            database_url = postgres.dsn
        if redis_url is None:
            dev.console.report("Starting Valkey.")
            valkey = Valkey(dev.folder)
            await start_with_retries(valkey, dev.console.report, KilledError)
            servers.append(valkey)
            redis_url = valkey.url
        yield database_url, redis_url, servers


def _make_environment(
    dev: DevRun, database_url: str, redis_url: str, secret_key: str
) -> dict[str, str]:
    """The environment of the API and the workers; the user's variables take precedence."""
    return {
        "WEBHOOK_ALLOW_PRIVATE": "true",
        "LOG_FORMAT": "console" if dev.console.is_terminal else "json",
        **{name: value for name, value in dev.environ.items() if value.strip()},
        "HOST": dev.settings.host,
        "PORT": str(dev.settings.port),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": secret_key,
        "DATA_DIR": str(dev.folder),
        "PROMETHEUS_MULTIPROC_DIR": str(make_empty_folder(dev.folder / "metrics")),
        "DRAIN_S": "0",  # there is no load balancer to notify
    }


@asynccontextmanager
async def _run_commands(dev: DevRun, env: Mapping[str, str]) -> AsyncIterator[list[Command]]:
    address = ["--host", dev.settings.host, "--port", str(dev.settings.port)]
    # The API's /metrics includes the workers' metrics.
    workers_env = {name: value for name, value in env.items() if name != "METRICS_PORT"}
    commands = [
        Command("The API", ["serve", *address], env, dev.lock.fd),
        Command("The worker process", ["work"], workers_env, dev.lock.fd),
    ]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stop_all, commands, CHILD_GRACE_S)
        for command in commands:
            await command.start()
        yield commands


@asynccontextmanager
async def _keep_running(dev: DevRun, parts: Sequence[Part]) -> AsyncIterator[None]:
    """Restarts the parts that end, until the context ends."""
    tasks = [asyncio.create_task(keep_running(part, dev.console.report)) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
