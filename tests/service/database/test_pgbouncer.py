"""Leadlog behind PgBouncer in transaction mode, set up as deploy/RUNBOOK.md says."""

import asyncio
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import asyncpg
import pytest
from msgspec.structs import replace

from service.cli import launch
from service.cli.dev.server_programs import find_server_user
from service.cli.processes import Child
from service.database.connect import Pool, create_pool
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.harness.cluster import Cluster
from tests.harness.factories import make_tenant
from tests.harness.running_service import run_service, wait_until
from tests.loopback.receiver import run_receiver
from tests.service.cli.devrun import PATIENCE_S, PROJECT, find_free_port

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(
    PROGRAM is None or sys.platform != "linux",
    reason="needs Linux and pgbouncer (`apt-get install pgbouncer`)",
)
RUNBOOK = (PROJECT / "deploy" / "RUNBOOK.md").read_text()


def read_block(language: str) -> str:
    """The configuration lines of the runbook, which this file tests."""
    section = RUNBOOK.partition("## PgBouncer")[2].partition("\n## ")[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def find_version(program: str) -> tuple[int, ...]:
    text = subprocess.check_output([program, "--version"], text=True)  # noqa: S603  # found on PATH
    return tuple(map(int, text.split()[1].split(".")[:2]))


@pytest.fixture(scope="module")
async def direct_url(cluster: Cluster) -> AsyncIterator[str]:
    async with cluster.make_database() as dsn:
        name = urlsplit(dsn).path.lstrip("/")
        admin = await asyncpg.connect(cluster.dsn_of(name, "postgres"))
        for line in read_block("sql").splitlines():
            await admin.execute(line.replace("IN DATABASE leadlog", f"IN DATABASE {name}"))
        await admin.close()
        yield dsn


@pytest.fixture(scope="module")
async def bouncer_url(
    direct_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """The address of a PgBouncer whose two server connections are shared by all sessions."""
    assert PROGRAM is not None
    user = find_server_user()
    parts, port = urlsplit(direct_url), find_free_port()
    name, host = parts.path.lstrip("/"), parse_qs(parts.query)["host"][0]
    log = tmp_path_factory.mktemp("bouncer") / "bouncer.log"
    # PgBouncer runs as PostgreSQL's user, who can enter neither the folders of the test nor those
    # above the server's socket: it starts in the socket's folder, and its settings are in a
    # folder that is open to all users.
    folder = Path(tempfile.mkdtemp(prefix="leadlog-bouncer-"))
    folder.chmod(0o755)  # noqa: ASYNC240
    lines = read_block("ini")
    if find_version(PROGRAM) < (1, 21):
        lines = re.sub(r"(?m)^max_prepared_statements.*\n", "", lines)
    settings = (
        f"[databases]\n{name} = host=/proc/self/cwd port=5432 dbname={name} user=leadlog\n{lines}"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "default_pool_size = 2\n"
    )
    file = folder / "pgbouncer.ini"
    file.write_text(settings)
    file.chmod(0o644)
    argv = launch.build_command([PROGRAM, str(file)], signal.SIGKILL, (user.uid, user.gid))
    child = Child(argv, cwd=Path(host), env={}, log=log)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await _answers(port):
                assert child.poll() is None, log.read_text()
                await asyncio.sleep(0.02)
        yield f"postgresql://leadlog@127.0.0.1:{port}/{name}"
    finally:
        await child.stop([signal.SIGINT], 5)
        shutil.rmtree(folder)


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.fixture(scope="module")
async def behind(settings: Settings, bouncer_url: str) -> Settings:
    assert PROGRAM is not None
    cache = 100 if find_version(PROGRAM) >= (1, 21) else 0
    return replace(settings, database_url=bouncer_url, db_statement_cache=cache)


@pytest.fixture(scope="module")
async def pool(behind: Settings) -> AsyncIterator[Pool]:
    pool = await create_pool(behind, "tests")
    yield pool
    await pool.close()


async def test_the_session_settings_are_in_force_through_pgbouncer(
    pool: Pool, settings: Settings, direct_url: str
) -> None:
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "jit",
             "plan_cache_mode", "enable_seqscan", "max_parallel_workers_per_gather",
             "TimeZone"]  # fmt: skip
    query = "SELECT array_agg(current_setting(name) ORDER BY name) FROM unnest($1::text[]) AS name"
    straight = await create_pool(replace(settings, database_url=direct_url), "tests")
    assert await pool.fetchval(query, names) == await straight.fetchval(query, names)
    await straight.close()


async def test_the_api_serves_concurrent_requests_through_pgbouncer(
    behind: Settings, pool: Pool, session: aiohttp.ClientSession
) -> None:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    async with serve_api(behind) as url:
        api = Api(url, session, tenant, tenant.key())

        async def live(number: int) -> None:
            body = f'{{"email": "b{number}@bouncer.com", "name": "Zoë Bouncer"}}'
            key = {"Idempotency-Key": f"bouncer-{number}"}
            made = await api.call("POST", "/v1/leads", body, headers=key)
            assert made.status == 201
            again = await api.call("POST", "/v1/leads", body, headers=key)
            assert (again.status, again.body) == (201, made.body)
            path = f"/v1/leads/{made.json['id']}"
            assert (await api.patch(path, {"title": "CTO"})).json["title"] == "CTO"
            assert (await api.get(path)).json["title"] == "CTO"

        await asyncio.gather(*(live(number) for number in range(40)))
        assert (await api.get("/v1/leads", limit=5)).json["pagination"]["total"] == 40
        found = await api.get("/v1/leads/search", q="bouncer", limit=5)
        assert found.json["pagination"]["total"] == 40
        assert (await api.post("/v1/api-keys", {"name": "k", "scope": "read"})).status == 201


async def test_the_workers_score_a_lead_and_deliver_its_webhook_through_pgbouncer(
    behind: Settings, pool: Pool
) -> None:
    async with run_service(behind, pool) as running, run_receiver() as receiver:
        endpoint_id = await running.add_webhook(f"{receiver.url}/hook")
        lead_id = await running.add_lead("round@bouncer.com", name="Round", title="CEO")
        (received,) = await receiver.wait_for(1)
        assert received.event["data"]["lead"]["id"] == lead_id
        (final,) = await running.wait_finished(endpoint_id, 1)
        assert final["outcome"] == "delivered"

        async def look() -> bool:
            return bool((await running.api.get(f"/v1/leads/{lead_id}")).json["score"])

        assert await wait_until(look)
