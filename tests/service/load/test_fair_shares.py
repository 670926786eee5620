"""The effect of one caller's crowd, flood or slowness on other callers of a real server."""

import asyncio
import itertools
import socket
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
from msgspec.structs import replace

from service.database.connect import Pool
from service.load.admission import CROWD_LIMITS
from service.load.load_shedder import SHARE
from service.settings import Settings
from tests.harness.api_client import Api, ApiResponse, serve_api
from tests.harness.factories import Tenant, make_lead
from tests.loopback.raw_http import connect, make_request

LIMIT_S = 0.01
PAST_CROWD_S = 3 * CROWD_LIMITS * LIMIT_S
FEW = 10


@asynccontextmanager
async def serve(settings: Settings, api: Api) -> AsyncIterator[Api]:
    async with serve_api(settings) as url, aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0)
    ) as session:  # fmt: skip
        yield Api(url, session, api.tenant, api.key)


@pytest.fixture
async def strict(
    settings: Settings, api: Api, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """A server for which a few requests are a crowd, and a crowd may last only briefly."""
    monkeypatch.setattr("service.load.overload_detector.ALWAYS_ADMITTED", FEW)
    async with serve(replace(settings, shed_after_s=LIMIT_S), api) as mine:
        yield mine


async def ask_again(
    ask: Callable[[int], Awaitable[ApiResponse]], clients: int, requests: int
) -> list[ApiResponse]:
    """Sends `requests` requests; each client sends its next request after a response."""
    numbers = iter(range(requests))

    async def work() -> list[ApiResponse]:
        return [await ask(number) for number in numbers]

    answers = await asyncio.gather(*(work() for _ in range(clients)))
    return list(itertools.chain(*answers))


async def test_sixty_patches_of_one_lead_after_a_start_all_succeed(
    settings: Settings, api: Api, pool: Pool
) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    async with serve(replace(settings, shed_after_s=0.15), api) as mine:
        answers = await ask_again(
            lambda n: mine.patch(f"/v1/leads/{lead_id}", {"name": f"n{n}"}), 32, 60
        )
        versions = [int(each.headers["etag"].strip('"').partition(".")[0]) for each in answers]
    assert [each.status for each in answers] == [200] * 60
    assert sorted(versions) == list(range(2, 62))


@pytest.mark.parametrize("kind", ["get", "post", "patch", "list", "search", "score"])
async def test_the_first_crowd_of_any_kind_after_a_start_is_served(
    settings: Settings, api: Api, pool: Pool, kind: str
) -> None:
    leads = [await make_lead(pool, api.tenant.id) for _ in range(10)]
    async with serve(replace(settings, shed_after_s=0.05), api) as mine:
        asks: dict[str, Callable[[int], Awaitable[ApiResponse]]] = {
            "get": lambda n: mine.get(f"/v1/leads/{leads[n % 10]}"),
            "post": lambda _: mine.post("/v1/leads", {"email": f"{uuid4()}@example.com"}),
            "patch": lambda n: mine.patch(f"/v1/leads/{leads[n % 10]}", {"name": f"n{n}"}),
            "list": lambda _: mine.get("/v1/leads"),
            "search": lambda _: mine.get("/v1/leads/search", q="acme"),
            "score": lambda n: mine.get(f"/v1/leads/{leads[n % 10]}/score"),
        }
        answers = await ask_again(asks[kind], 64, 200)
    assert {each.status for each in answers} == {201 if kind == "post" else 200}


async def test_slow_bodies_do_not_count_as_requests_in_progress(
    strict: Api, tenant: Tenant, other: Tenant
) -> None:
    async with AsyncExitStack() as stack:
        head = make_request("POST", "/v1/leads", "Content-Length: 100", key=tenant.key())
        for _ in range(3 * FEW):
            wire = await stack.enter_async_context(connect(strict.url))
            await wire.send(head + b"{")
        await asyncio.sleep(PAST_CROWD_S)
        for caller in (strict.of(other), strict):
            assert (await caller.get("/v1/leads")).status == 200
            made = await caller.post("/v1/leads", {"email": f"{uuid4()}@example.com"})
            assert made.status == 201


@pytest.mark.parametrize("path", ["/openapi.json", "/v1/leads?limit=100"])
async def test_unread_responses_do_not_count_as_requests_in_progress(
    strict: Api, pool: Pool, tenant: Tenant, other: Tenant, path: str
) -> None:
    for _ in range(20):
        await make_lead(pool, tenant.id, custom_fields={"note": "x" * 12_000})
    address = urlsplit(strict.url)
    sockets: list[socket.socket] = []
    try:
        for _ in range(3 * FEW):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((address.hostname, address.port))
            client.sendall(make_request("GET", path, key=tenant.key()) * 60)
            sockets.append(client)
            await asyncio.sleep(0)
        await asyncio.sleep(PAST_CROWD_S)
        async with asyncio.timeout(20):  # their earlier requests are served first
            for caller in (strict.of(other), strict):
                while (await caller.get("/v1/leads", limit=1)).status != 200:
                    pass
    finally:
        for client in sockets:
            client.close()


async def test_a_flood_of_one_key_neither_refuses_nor_delays_another_key(
    settings: Settings, api: Api, other: Tenant, pool: Pool
) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    theirs = await make_lead(pool, other.id)
    async with serve(replace(settings, shed_after_s=0.02), api) as flood:
        modest, over = flood.of(other), asyncio.Event()
        answered = refused = 0

        async def pour(ask: Callable[[], Awaitable[ApiResponse]]) -> None:
            nonlocal answered, refused
            while not over.is_set():
                status = (await ask()).status
                answered += status < 300
                refused += status == 503

        asks: list[Callable[[], Awaitable[ApiResponse]]] = [
            lambda: flood.get(f"/v1/leads/{lead_id}"),
            lambda: flood.post("/v1/leads", {"email": f"{uuid4()}@example.com"}),
            lambda: flood.get("/v1/leads"),
            lambda: flood.get("/v1/leads/search", q="acme"),
            lambda: flood.patch(f"/v1/leads/{lead_id}", {"name": str(uuid4())}),
        ]
        assert (await modest.get(f"/v1/leads/{theirs}")).status == 200
        pouring = [asyncio.create_task(pour(asks[n % 5])) for n in range(200)]
        passed: list[int] = []
        for n in range(10):
            for ask in (
                modest.get(f"/v1/leads/{theirs}"),
                modest.post("/v1/leads", {"email": f"{uuid4()}@example.com"}),
                modest.patch(f"/v1/leads/{theirs}", {"name": f"n{n}"}),
            ):
                before = answered
                assert (await ask).status in {200, 201}
                passed.append(answered - before)
            assert (await modest.get("/v1/leads", limit=1)).status == 200
        over.set()
        await asyncio.gather(*pouring)
    assert refused
    assert answered > 200
    # In one common queue, all open requests of the flood would be served first.
    assert statistics.median(passed) < 3 * SHARE
