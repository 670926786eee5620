"""/health/ready, `leadlog doctor` and the metrics of the API report dead workers."""

import re
from pathlib import Path

import aiohttp
import pytest

from service.cli.commands.doctor import _examine
from service.database.connect import Pool
from service.events.monitoring import WorkerHealth, find_worker_faults
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.harness.factories import make_tenant
from tests.harness.running_service import wait_until
from tests.harness.worker_process import worker_process

REPORTED_WITHIN_S = 30
START_S = 60
RUNS = WorkerHealth(alive=1, silent_s=0, idle=[], lags={"scorer": 0.1})
APPEND = (
    "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, "
    "data) VALUES (0, 1, true, 'a', 1, 'e', 't', 'k', now() - make_interval(secs => $1), '{}')"
)


async def read_metric(api: Api, name: str) -> list[float]:
    text = (await api.get("/metrics")).body.decode()
    return [
        float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    ]


async def read_state(api: Api) -> tuple[int, str, str]:
    ready = await api.with_key(None).get("/health/ready")
    return ready.status, ready.json["status"], ready.json["checks"]["workers"]


async def find_advice(settings: Settings) -> dict[str, str]:
    """The advice of `leadlog doctor` on workers and readers."""
    environ = {
        "DATABASE_URL": settings.require_database_url(),
        "REDIS_URL": settings.require_redis_url(),
        "SECRET_KEY": settings.secret_key or "",
    }
    return {f.check: f.advice for f in await _examine(environ) if f.check in ("workers", "readers")}


async def test_killed_workers_are_reported_within_30_s(
    committed: Pool, settings: Settings, tmp_path: Path
) -> None:
    async with committed.acquire() as conn:
        tenant = await make_tenant(conn)
    async with serve_api(settings) as url, aiohttp.ClientSession() as session:
        api = Api(url, session, tenant, tenant.key())

        async def is_healthy() -> bool:
            return await read_state(api) == (200, "ok", "ok")

        async def is_reported() -> bool:
            status, state, workers = await read_state(api)
            return (status, state) == (200, "degraded") and "no worker process" in workers

        assert "seen yet" in (await read_state(api))[2]
        async with worker_process(settings, tmp_path / "log") as process:
            await wait_until(is_healthy, START_S)
            assert await read_metric(api, "leadlog_workers_alive") == [1]
            assert await find_advice(settings) == {"workers": "", "readers": ""}
            process.kill()
            await process.wait()
        await wait_until(is_reported, REPORTED_WITHIN_S)
        assert await read_metric(api, "leadlog_workers_alive") == [0]
        assert "leadlog work" in (await find_advice(settings))["workers"]

        assert (await api.post("/v1/leads", {"email": "a@example.com"})).status == 201
        lags: list[float] = []

        async def is_behind() -> bool:  # /metrics may be a second old
            lags[:] = await read_metric(api, "leadlog_reader_lag_seconds")
            return min(lags) > 0.1

        await wait_until(is_behind, REPORTED_WITHIN_S)  # the lag grows although no tick is cut
        assert len(lags) == 4


async def test_a_stopped_worker_is_reported_as_well(
    committed: Pool, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.events.monitoring.GRACE_S", 1.0)
    async with committed.acquire() as conn:
        tenant = await make_tenant(conn)
    async with serve_api(settings) as url, aiohttp.ClientSession() as session:
        api = Api(url, session, tenant, tenant.key())

        async def is_reported() -> bool:
            return "no worker process has been seen for" in (await read_state(api))[2]

        async with worker_process(settings, tmp_path / "log") as process:
            leases = "SELECT count(*) > 10 FROM lease WHERE expires_at > now()"

            async def has_started() -> bool:
                return bool(await committed.fetchval(leases))

            await wait_until(has_started, START_S)
            process.terminate()
            assert await process.wait() == 0
        await wait_until(is_reported, REPORTED_WITHIN_S)


async def test_lag_is_measured_by_the_clock_when_no_tick_is_cut(
    committed: Pool, settings: Settings
) -> None:
    async with serve_api(settings) as url, aiohttp.ClientSession() as session:
        async with committed.acquire() as conn:
            tenant = await make_tenant(conn)
        api = Api(url, session, tenant, None)
        assert max(await read_metric(api, "leadlog_reader_lag_seconds")) == 0
        await committed.execute(APPEND, 120)

        async def is_measured() -> bool:  # /metrics may be a second old
            return min(await read_metric(api, "leadlog_reader_lag_seconds")) >= 120

        await wait_until(is_measured, REPORTED_WITHIN_S)
        ready = (await api.get("/health/ready")).json
        assert ready["status"] == "degraded"
        assert "scorer 12" in ready["checks"]["readers"]


def test_each_fault_is_described_in_a_sentence() -> None:
    assert find_worker_faults(RUNS) == {}
    dead = find_worker_faults(WorkerHealth(alive=0, silent_s=41.7, idle=["ticker"], lags={}))
    assert dead == {
        "workers": "no worker process has been seen for 42 s; is `leadlog work` running?"
    }
    stuck = find_worker_faults(WorkerHealth(alive=1, silent_s=0, idle=["publisher"], lags={}))
    assert stuck == {"workers": "no worker runs publisher; see the workers' log"}
    late = find_worker_faults(WorkerHealth(alive=1, silent_s=0, idle=[], lags={"a": 31, "b": 29}))
    assert late == {"readers": "behind: a 31 s; see the workers' log"}
    dead = find_worker_faults(WorkerHealth(alive=0, silent_s=0, idle=[], lags={"a": 31}))
    assert dead["readers"] == "behind: a 31 s; is `leadlog work` running?"
