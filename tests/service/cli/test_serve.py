"""`leadlog serve` as separate processes: several on one port, and their shutdown."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import psutil
import pytest

import sql
from service.cli.commands.serve import remove_orphaned_folders
from service.database.connect import Pool
from service.settings import Settings
from tests.harness.api_client import Api
from tests.harness.factories import Tenant
from tests.service.cli.devrun import PATIENCE_S, PROJECT, find_free_port

CLIENTS = 8


@asynccontextmanager
async def serve(
    settings: Settings,
    session: aiohttp.ClientSession,
    tenant: Tenant,
    workers: int,
    **environ: str,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Api]]:
    """Runs `leadlog serve`; yields its process and a client once it is ready."""
    port = find_free_port()
    env = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "LOG_LEVEL": "error",
        "DATABASE_URL": settings.require_database_url(), "SECRET_KEY": settings.secret_key or "",
        "REDIS_URL": settings.require_redis_url(), "DRAIN_S": "0.5", "SHED_AFTER_S": "60",
        **environ,
    }  # fmt: skip
    arguments = ["-m", "service.cli.main", "serve", "--port", str(port), "--workers", str(workers)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=env)
    api = Api(f"http://127.0.0.1:{port}", session, tenant, tenant.key())
    family = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await is_ready(api):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        family = find_servers(process.pid)
        yield process, api
    finally:
        if process.returncode is None:
            family = find_servers(process.pid)
            process.kill()
            await process.wait()
        for each in family:
            if each.is_running():
                each.kill()


def find_servers(pid: int) -> list[psutil.Process]:
    """The server processes among the children of a process, without multiprocessing's helper."""
    servers = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                servers.append(child)
    return servers


async def is_ready(api: Api) -> bool:
    try:
        return (await api.with_key(None).get("/health/ready")).status == 200
    except aiohttp.ClientConnectionError:
        return False


@dataclass
class Ledger:
    """The results of the clients' requests."""

    created: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)
    created_while_draining: int = 0
    draining: bool = False


async def keep_creating(api: Api, name: str, ledger: Ledger) -> None:
    """Creates one lead after another until a connection is refused."""
    number = 0
    while True:
        number += 1
        email = f"{name}.{number}@drain-corp.com"
        try:
            answer = await api.post("/v1/leads", {"email": email})
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            ledger.refused.append(email)
            return
        except aiohttp.ClientError as error:
            ledger.broken.append(error)
            return
        assert answer.status == 201
        ledger.created.add(email)
        ledger.created_while_draining += ledger.draining


async def watch_readiness(api: Api, ledger: Ledger) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await is_ready(api):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.02)
    ledger.draining = True


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_under_load_loses_no_request_and_responds_to_long_polls(
    settings: Settings, tenant: Tenant, pool: Pool, workers: int
) -> None:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session,
        serve(settings, session, tenant, workers) as (process, api),
    ):
        ledger = Ledger()
        test_mode = api.as_("read", live=False)
        # No events come in test mode: only the end of the process ends this wait.
        poll = asyncio.create_task(test_mode.get("/v1/events", after="latest", wait=20))
        clients = [
            asyncio.create_task(keep_creating(api, f"c{workers}{n}", ledger))
            for n in range(CLIENTS)
        ]
        while len(ledger.created) < 3 * CLIENTS:
            assert not any(client.done() for client in clients)
            await asyncio.sleep(0.01)
        watch = asyncio.create_task(watch_readiness(api, ledger))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(watch, *clients)
            waited = await poll
            assert await process.wait() == 0
    assert ledger.created_while_draining > 0
    assert ledger.broken == []
    assert len(ledger.refused) == CLIENTS
    assert waited.json["data"] == []
    pattern = f"c{workers}%@drain-corp.com"
    rows = await pool.fetch("SELECT email FROM lead WHERE email LIKE $1", pattern)
    assert {row["email"] for row in rows} == ledger.created


async def ask_often(api: Api, times: int) -> None:
    """Sends each request on a connection of its own, so that every process gets some."""
    for _ in range(times):
        async with aiohttp.ClientSession() as session:
            answer = await replace(api, session=session).get("/v1/leads/lead_unknown")
        assert answer.status == 404


async def count_asked(api: Api) -> float:
    labels = '{method="GET",route="/leads/{id}",status="404"}'
    text = (await api.with_key(None).get("/metrics")).body.decode()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("leadlog_requests_total" + labels)
    )


async def test_a_killed_process_is_replaced_and_the_counters_stay_complete(
    settings: Settings, session: aiohttp.ClientSession, tenant: Tenant
) -> None:
    async with serve(settings, session, tenant, workers=2) as (process, api):
        await ask_often(api, 30)
        assert {await count_asked(api) for _ in range(5)} == {30}
        before = find_servers(process.pid)
        assert len(before) == 2
        before[0].kill()
        async with asyncio.timeout(PATIENCE_S):
            while not set(find_servers(process.pid)) - set(before):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        async with asyncio.timeout(PATIENCE_S):
            while not await is_ready(api):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await ask_often(api, 10)
        async with asyncio.timeout(PATIENCE_S):
            while await count_asked(api) < 40:  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # each process caches its text for a second
        assert await count_asked(api) == 40
        family = find_servers(process.pid)
        process.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 15)
        assert alive == []


async def test_processes_that_start_without_redis_divide_the_limits(
    settings: Settings, session: aiohttp.ClientSession, tenant: Tenant, pool: Pool
) -> None:
    await pool.execute(sql.plan_save, "daily", None, 20, None, [], [], [])
    own = {"REDIS_URL": "redis://127.0.0.1:9", "DEFAULT_PLAN": "daily"}
    async with serve(settings, session, tenant, workers=2, **own) as (_, api):
        statuses = [(await api.get("/v1/leads")).status for _ in range(25)]  # on one connection
    assert statuses == [200] * 10 + [429] * 15


async def test_several_processes_share_the_metrics_port_and_each_reports_all(
    settings: Settings, session: aiohttp.ClientSession, tenant: Tenant
) -> None:
    port = find_free_port()
    own = {"METRICS_PORT": str(port)}
    async with serve(settings, session, tenant, workers=2, **own) as (_, api):
        scrape = replace(api, url=f"http://127.0.0.1:{port}")
        await ask_often(api, 30)
        async with asyncio.timeout(PATIENCE_S):
            while await count_asked(scrape) < 30:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        for _ in range(10):  # either process may respond
            async with aiohttp.ClientSession() as fresh:
                assert await count_asked(replace(scrape, session=fresh)) == 30
        assert (await api.get("/metrics")).status == 404


def test_the_metrics_folders_of_killed_runs_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    orphan = tmp_path / f"leadlog-metrics-{ended.pid}-abc"
    kept = [
        tmp_path / name
        for name in (f"leadlog-metrics-{os.getpid()}-abc", "leadlog-metrics-abc-1", "other")
    ]
    for folder in (orphan, *kept):
        folder.mkdir()
        (folder / "counter_1.db").touch()
    link = tmp_path / f"leadlog-metrics-{ended.pid}-link"
    link.symlink_to(kept[0])
    remove_orphaned_folders(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*kept, link])
    assert all((folder / "counter_1.db").exists() for folder in kept)


def list_folder(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_a_killed_run_leaves_no_metrics_to_the_next(
    settings: Settings, tenant: Tenant, pool: Pool, tmp_path: Path
) -> None:
    assert pool is not None
    folders: list[Path] = []
    for _ in range(2):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session,
            serve(settings, session, tenant, 2, TMPDIR=str(tmp_path)) as (process, _),
        ):
            folders += list_folder(tmp_path)
            process.kill()
            await process.wait()
    assert len({folder.name for folder in folders}) == len(folders) == 2
