"""Outages: a 503 at once without the database, no error without Redis, and recovery by itself."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
import structlog
from msgspec.structs import replace

from service.app import API
from service.database.connect import Connector, Pool, create_pool
from service.database.database_watch import DatabaseWatch
from service.docs.openapi.examples.calls import find_call
from service.settings import Settings
from tests.harness.api_client import Api, ApiResponse, serve_api
from tests.harness.factories import make_lead
from tests.service.rate_limits.limiters import frozen, run_valkey

AT_ONCE_S = 1.0
PATIENCE_S = 20.0
TOO_MANY = "too many connections for role"


@asynccontextmanager
async def serve(settings: Settings, api: Api) -> AsyncIterator[Api]:
    async with serve_api(settings) as url:
        yield Api(url, api.session, api.tenant, api.key)


@pytest.fixture
def mute_address() -> Iterator[str]:
    """A port that accepts connections and never sends a byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql://leadlog@127.0.0.1:{listener.getsockname()[1]}/leadlog"


def find_closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


def assert_unavailable(response: ApiResponse) -> None:
    assert (response.status, response.error["code"]) == (503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert "Connection" not in response.error["message"]


async def test_every_route_is_503_at_once_while_the_database_is_away(
    api: Api, settings: Settings
) -> None:
    url = f"postgresql://leadlog@127.0.0.1:{find_closed_port()}/leadlog"
    async with serve(replace(settings, database_url=url), api) as lost:
        for operation in API:
            body = find_call(operation).body
            begun = time.monotonic()
            path = f"/v1{operation.path}".replace("{id}", "lead_1")
            send = {"POST": lost.post, "PATCH": lost.patch}.get(operation.method)
            response = await (send(path, body) if send else lost.call(operation.method, path))
            assert_unavailable(response)
            assert time.monotonic() - begun < AT_ONCE_S
        assert (await lost.get("/health/live")).status == 200
        ready = await lost.get("/health/ready")
        assert (ready.status, ready.json["status"]) == (503, "failing")
        assert (await lost.get("/metrics")).status == 200
        assert (await lost.get("/openapi.json")).status == 200


async def test_a_silent_database_delays_one_caller_at_a_time(
    api: Api, settings: Settings, mute_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.database.connect.CONNECT_TIMEOUT_S", 0.5)
    async with serve(replace(settings, database_url=mute_address), api) as lost:
        begun = time.monotonic()
        assert_unavailable(await lost.get("/v1/leads/lead_1"))
        assert time.monotonic() - begun < 0.5 + AT_ONCE_S
        probe = asyncio.create_task(lost.get("/v1/leads/lead_1"))
        begun = time.monotonic()
        for _ in range(20):
            assert_unavailable(await lost.get("/v1/leads/lead_1"))
        assert time.monotonic() - begun < 0.5 + AT_ONCE_S
        assert_unavailable(await probe)


async def test_a_wrong_password_or_database_is_503_not_500(
    api: Api, settings: Settings, database_url: str
) -> None:
    for wrong in (
        database_url.replace("leadlog@", "nobody_of_that_name@"),
        database_url.replace("@/", "@/no_such_database_"),
    ):
        assert wrong != database_url
        async with serve(replace(settings, database_url=wrong), api) as lost:
            assert_unavailable(await lost.get("/v1/leads/lead_1"))


async def test_the_api_recovers_after_the_database_has_dropped_its_connections(
    api: Api, settings: Settings, pool: Pool
) -> None:
    async with serve(settings, api) as mine:
        assert (await mine.get("/v1/api-keys")).status == 200
        for _ in range(3):
            ended = await pool.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'leadlog-api' AND datname = current_database()"
            )
            assert ended >= 1
            async with asyncio.timeout(5):
                while (response := await mine.get("/v1/api-keys")).status != 200:
                    assert_unavailable(response)
                    await asyncio.sleep(0.05)


async def test_a_fault_that_only_the_pools_see_is_reported(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role may open one connection, which the watch holds."""
    admin = await asyncpg.connect(database_url.replace("leadlog@", "postgres@"))
    await admin.execute("CREATE ROLE narrow LOGIN IN ROLE leadlog CONNECTION LIMIT 1")
    connector = Connector()
    narrow = replace(settings, database_url=database_url.replace("leadlog@", "narrow@"))
    watch = DatabaseWatch(narrow, connector)
    assert await watch.check()  # the watch holds the only connection
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr("service.telemetry.outage_log.log", log)
    try:
        async with (
            watch.running(),
            await create_pool(narrow, "tests", connector=connector) as pool,
            asyncio.timeout(PATIENCE_S),
        ):
            while not log.calls:
                with pytest.raises(ConnectionError, match=TOO_MANY):
                    await pool.fetchval("SELECT 1")  # mostly without an attempt to connect
                await asyncio.sleep(0.05)
    finally:
        await admin.execute("DROP ROLE narrow")
        await admin.close()
    assert log.calls[0].args == ("database.away",)
    assert TOO_MANY in log.calls[0].kwargs["reason"]
    assert watch.fault is None


async def test_the_watch_reports_a_fault_of_the_session_settings(settings: Settings) -> None:
    watch = DatabaseWatch(replace(settings, statement_timeout_s=3_000_000), Connector())
    async with watch.running():
        assert not await watch.check()
    assert watch.fault is not None
    assert "statement_timeout" in watch.fault


async def test_a_write_that_waits_too_long_for_another_transaction_is_503(
    api: Api, settings: Settings, pool: Pool
) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    async with (
        serve(replace(settings, statement_timeout_s=0.3), api) as mine,
        pool.acquire() as conn,
    ):
        async with conn.transaction():
            await conn.execute("SELECT FROM lead WHERE id = $1 FOR UPDATE", lead_id)
            begun = time.monotonic()
            assert_unavailable(await mine.patch(f"/v1/leads/{lead_id}", {"name": "x"}))
            assert time.monotonic() - begun < 0.3 + AT_ONCE_S
        assert (await mine.patch(f"/v1/leads/{lead_id}", {"name": "x"})).status == 200


async def test_leads_are_created_while_redis_is_unreachable(
    api: Api, settings: Settings, tmp_path: Path
) -> None:
    nowhere = replace(settings, redis_url=f"unix://{tmp_path}/none.sock")
    async with serve(nowhere, api) as mine:
        for n in range(3):
            begun = time.monotonic()
            made = await mine.post("/v1/leads", {"email": f"redis{n}@example.com"})
            assert made.status == 201
            assert time.monotonic() - begun < AT_ONCE_S


async def test_ready_names_a_redis_that_cannot_be_used(
    tmp_path: Path, settings: Settings, api: Api
) -> None:
    async with run_valkey(tmp_path / "valkey") as server:
        client = redis.asyncio.Redis.from_url(server.url)
        pid = (await client.info("server"))["process_id"]
        await client.aclose()
        async with serve(replace(settings, redis_url=server.url), api) as mine:
            await wait_for_check(mine, "ok")
            with frozen(pid):
                ready = await wait_for_check(mine, "cannot be used (")
                assert (ready.status, ready.json["status"]) == (200, "degraded")
            await wait_for_check(mine, "ok")
    url = f"redis://127.0.0.1:{find_closed_port()}"
    async with serve(replace(settings, redis_url=url), api) as mine:
        ready = await wait_for_check(mine, "cannot be used (Connection")
        assert (ready.status, ready.json["status"]) == (200, "degraded")


async def wait_for_check(api: Api, begin: str) -> ApiResponse:
    """Wait until the Redis check of /health/ready begins with `begin`; return the response."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            ready = await api.get("/health/ready")
            if ready.json["checks"]["redis"].startswith(begin):
                return ready
            await asyncio.sleep(0.05)
