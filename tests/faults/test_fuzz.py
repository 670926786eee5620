"""No request makes the API fail: thousands or millions of hostile requests for every route."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import asyncpg
import pytest
from msgspec.structs import replace

from service.database.connect import Pool
from service.settings import Settings
from tests.faults.fault_harness import Say
from tests.faults.fuzzing import Fuzzer, Known, Request, find_fault
from tests.harness.api_client import Api, serve_api
from tests.harness.cluster import reset_database
from tests.harness.factories import Tenant, make_lead, make_tenant
from tests.loopback.raw_http import RawConnection, RawResponse, connect

LONG_RUN = int(os.environ.get("FUZZ_REQUESTS", "1000000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261130"))
ROUND = 10_000
"""The number of requests before the database is emptied, so that they cannot fill it."""
CONNECTIONS = 8
MOST_CPU_S = 0.5
"""The limit of processor time that the event loop may use without a pause. Elapsed time would also
grow because of other programs on a busy machine."""
TIMEOUT_S = 60.0
"""The time limit of a response, which takes milliseconds on an idle machine."""


@dataclass
class Report:
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    largest_error: int = 0
    busiest_s: float = 0.0
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    begun: int = 0

    def count(self, answer: RawResponse, seconds: float) -> None:
        self.slowest_s = max(self.slowest_s, seconds)
        self.requests += 1
        self.statuses[answer.status] += 1
        if answer.status >= 400:
            self.largest_error = max(self.largest_error, len(answer.body))

    def __str__(self) -> str:
        counts = sorted(self.statuses.items())
        statuses = ", ".join(f"{status}: {count}" for status, count in counts)
        return (
            f"{self.requests:,} requests: {statuses}; largest error {self.largest_error:,} bytes; "
            f"slowest response {self.slowest_s:.1f} s; "
            f"loop busy for {self.busiest_s * 1000:.0f} ms of processor time at most"
        )


@asynccontextmanager
async def watching_loop(report: Report) -> AsyncIterator[None]:
    async def watch() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            report.busiest_s = max(report.busiest_s, time.thread_time() - before)

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()


async def prepare(api: Api, pool: Pool) -> Known:
    """Makes objects of each kind, for use in requests."""
    tenant = api.tenant
    leads = [await make_lead(pool, tenant.id, company="Acme", tags=["vip"]) for _ in range(4)]
    hooks, deliveries, replays = [], [], []
    for _ in range(2):
        body = {"url": "https://8.8.8.8/hook", "events": ["lead.created", "lead.updated"]}
        hooks.append((await api.post("/v1/webhooks", body)).json["id"])
        for _ in range(3):
            started = await api.post(f"/v1/webhooks/{hooks[-1]}/test", {})
            deliveries.append(started.json["deliveryId"])
        replay = await api.post(f"/v1/webhooks/{hooks[-1]}/replay", {"since": "2026-01-01"})
        replays.append(replay.json["id"])
    key = (await api.post("/v1/api-keys", {"name": "spare", "scope": "read"})).json["id"]
    ids = {"leads": leads, "webhooks": hooks, "deliveryId": deliveries, "replayId": replays}
    lists = [
        ("/v1/leads?limit=1", "cursor"), ("/v1/leads?limit=2&sortBy=updatedAt", "cursor"),
        ("/v1/leads?limit=1&sortBy=score", "cursor"),
        ("/v1/leads?limit=1&tag=vip&sortBy=score", "cursor"),
        ("/v1/leads?limit=1&status=new&createdAfter=2020-01-01", "cursor"),
        ("/v1/leads/search?q=acme&limit=1", "cursor"), ("/v1/events?limit=1", "after"),
        (f"/v1/webhooks/{hooks[0]}/deliveries?limit=1", "cursor"),
        (f"/v1/webhooks/{hooks[0]}/deliveries?limit=1&state=pending", "cursor"),
    ]  # fmt: skip
    cursors = []
    for path, name in lists:
        answer = await api.call("GET", path)
        cursors.append((path, name, answer.json["pagination"]["nextCursor"]))
    return Known(tenant.key(), ids | {"api-keys": [key]}, cursors)


async def fuzz(url: str, fuzzer: Fuzzer, count: int, report: Report) -> None:
    """Sends `count` requests over several connections; stops at the first fault."""
    end = report.requests + count

    async def send_some() -> None:
        while report.begun < end and not report.faults:
            async with connect(url) as wire:
                while report.begun < end and not report.faults:
                    report.begun += 1
                    if not await send(url, wire, fuzzer.make(), report):
                        break

    await asyncio.gather(*(send_some() for _ in range(CONNECTIONS)))


async def send(url: str, wire: RawConnection, request: Request, report: Report) -> bool:
    """Sends a request and checks the response; returns whether the connection is reusable."""
    begun = time.monotonic()
    await wire.send(request.encode())
    try:
        answer = await wire.read_response(has_body=request.method != "HEAD", timeout_s=TIMEOUT_S)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
        report.faults.append(f"{error!r}: {request.to_curl(url)[:2_000]}")
        return False
    report.count(answer, time.monotonic() - begun)
    if fault := find_fault(request, answer):
        shown = f"{answer.status} {answer.headers} {answer.body[:500]!r}"
        report.faults.append(f"{fault}: {request.to_curl(url)[:2_000]}\n{shown}")
    return answer.headers.get("connection") != "close"


async def run(
    settings: Settings, pool: Pool, admin: asyncpg.Connection, count: int, say: Say
) -> Report:
    """Sends `count` requests in rounds, each on an empty database with a new tenant."""
    report = Report()
    quiet = replace(settings, log_level="error", public_docs_url="https://leadlog.test/docs")
    async with serve_api(quiet) as url, aiohttp.ClientSession() as session:
        for number, begin in enumerate(range(0, count, ROUND)):
            await reset_database(admin)
            async with pool.acquire() as conn:
                tenant: Tenant = await make_tenant(conn)
            known = await prepare(Api(url, session, tenant, tenant.key()), pool)
            seed = SEED + number
            async with watching_loop(report):
                await fuzz(url, Fuzzer(seed, known), min(ROUND, count - begin), report)
            if report.faults:
                pytest.fail(f"FUZZ_SEED={seed}\n" + "\n".join(report.faults), pytrace=False)
            if number % 10 == 0:
                say(str(report))
    await reset_database(admin)
    return report


async def check(
    settings: Settings, pool: Pool, admin: asyncpg.Connection, count: int, say: Say
) -> None:
    begun = time.monotonic()
    report = await run(settings, pool, admin, count, say)
    say(f"seed {SEED}, {time.monotonic() - begun:.0f} s, {report}")
    assert report.requests == count
    assert report.busiest_s < MOST_CPU_S
    assert {200, 201, 202, 400, 401, 404, 405, 409, 415, 422} <= set(report.statuses)


@pytest.mark.timeout(300)
async def test_four_thousand_hostile_requests_cause_no_fault(
    settings: Settings, pool: Pool, admin_conn: asyncpg.Connection, say: Say
) -> None:
    await check(settings, pool, admin_conn, 4_000, say)


@pytest.mark.long
@pytest.mark.timeout(0)
async def test_a_million_hostile_requests_cause_no_fault(
    settings: Settings, pool: Pool, admin_conn: asyncpg.Connection, say: Say
) -> None:
    await check(settings, pool, admin_conn, LONG_RUN, say)
