"""The database or Redis is away, slow or mute: 503 at once, and well again without help."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from service.app import API
from service.db import Pool
from service.docs.examples import EXAMPLES
from service.settings import Settings
from tests.factories import make_lead
from tests.serving import Answer, Api, serve_api

AT_ONCE_S = 1.0


@asynccontextmanager
async def serve(settings: Settings, api: Api) -> AsyncIterator[Api]:
    async with serve_api(settings) as url:
        yield Api(url, api.session, api.tenant, api.key)


@pytest.fixture
def mute_address() -> Iterator[str]:
    """A port that takes connections, behind which nobody ever says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql://leadlog@127.0.0.1:{listener.getsockname()[1]}/leadlog"


def find_closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, answer.error["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert "Connection" not in answer.error["message"]


async def test_every_route_says_at_once_that_the_database_is_away(
    api: Api, settings: Settings
) -> None:
    url = f"postgresql://leadlog@127.0.0.1:{find_closed_port()}/leadlog"
    async with serve(replace(settings, database_url=url), api) as lost:
        for operation in API:
            body = EXAMPLES.get(operation.body)
            begun = time.monotonic()
            path = f"/v1{operation.path}".replace("{id}", "lead_1")
            send = {"POST": lost.post, "PATCH": lost.patch}.get(operation.method)
            answer = await (send(path, body) if send else lost.call(operation.method, path))
            assert_unavailable(answer)
            assert time.monotonic() - begun < AT_ONCE_S
        assert (await lost.get("/health/live")).status == 200
        ready = await lost.get("/health/ready")
        assert (ready.status, ready.json["status"]) == (503, "failing")
        assert (await lost.get("/metrics")).status == 200
        assert (await lost.get("/openapi.json")).status == 200


async def test_a_database_that_says_nothing_holds_up_one_caller_at_a_time(
    api: Api, settings: Settings, mute_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.db.CONNECT_TIMEOUT_S", 0.5)
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


async def test_the_api_is_well_again_after_the_database_has_dropped_its_connections(
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
                while (answer := await mine.get("/v1/api-keys")).status != 200:
                    assert_unavailable(answer)
                    await asyncio.sleep(0.05)


async def test_a_write_that_waits_too_long_for_another_is_503(
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


async def test_redis_may_be_away(api: Api, settings: Settings, tmp_path: Path) -> None:
    nowhere = replace(settings, redis_url=f"unix://{tmp_path}/none.sock")
    async with serve(nowhere, api) as mine:
        for n in range(3):
            begun = time.monotonic()
            made = await mine.post("/v1/leads", {"email": f"redis{n}@example.com"})
            assert made.status == 201
            assert time.monotonic() - begun < AT_ONCE_S
