"""Many long polls at once: none is refused, whether an event wakes them or their time is over."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from msgspec.structs import replace

import sql
from service.access.api_keys import Scope
from service.database.connect import Pool
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.harness.factories import make_tenant

LIMIT_S = 0.005
POLLS = 60
KEYS: tuple[Scope, ...] = ("read", "write", "admin")


@pytest.fixture
async def caller(
    settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """A client of a new tenant, on a server that a few requests overload."""
    monkeypatch.setattr("service.load.overload_detector.ALWAYS_ADMITTED", 10)
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    async with (
        serve_api(replace(settings, shed_after_s=LIMIT_S)) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Api(url, session, tenant, tenant.key())


async def cut(pool: Pool) -> None:
    await pool.fetchval(sql.ticker_cut, await pool.fetchval(sql.tick_get_newest))


async def find_end(caller: Api) -> str:
    page = (await caller.get("/v1/events", after="latest")).json
    return str(page["pagination"]["nextCursor"])


class Polls:
    """Long polls with all live keys of a tenant; each task returns a status and an event count.

    A poll that is refused before `is_open`, because all are sent at once, is sent again.
    """

    def __init__(self, caller: Api, after: str, wait_s: int) -> None:
        self.is_open = False
        self._after, self._wait_s = after, wait_s
        self._sent_at = 0.0
        callers = [caller.as_(scope) for scope in KEYS]
        self.tasks = [asyncio.create_task(self._poll(callers[n % 3])) for n in range(3 * POLLS)]

    async def _poll(self, api: Api) -> tuple[int, int]:
        while True:
            self._sent_at = time.monotonic()
            answer = await api.get("/v1/events", after=self._after, wait=self._wait_s)
            if answer.status != 503 or self.is_open:
                return answer.status, len(answer.json.get("data", ()))

    async def wait_until_open(self) -> None:
        """Waits until no poll has been sent again for longer than a refusal takes."""
        async with asyncio.timeout(20):
            while not self._sent_at or time.monotonic() - self._sent_at < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        self.is_open = True
        assert not any(task.done() for task in self.tasks)


@asynccontextmanager
async def flooding(caller: Api) -> AsyncIterator[None]:
    """Reads lists with all keys, each on 50 connections; yields once requests are refused."""
    over, statuses = asyncio.Event(), Counter[int]()

    async def pour(api: Api) -> None:
        while not over.is_set():
            statuses[(await api.get("/v1/leads")).status] += 1

    tasks = [asyncio.create_task(pour(caller.as_(scope))) for scope in KEYS for _ in range(50)]
    async with asyncio.timeout(20):
        while statuses[503] < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    yield
    over.set()
    await asyncio.gather(*tasks)


async def test_polls_woken_by_one_event_in_an_overload_are_not_refused(
    caller: Api, pool: Pool
) -> None:
    polls = Polls(caller, await find_end(caller), 30)
    await polls.wait_until_open()
    async with flooding(caller):
        await pool.execute(
            "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor,"
            " at, data) VALUES (lead_shard('lead_1'), $1, true, 'lead_1', 1, $2, 'lead.updated',"
            " 'key_1', now(), '{}')",
            caller.tenant.id,
            f"evt_{caller.tenant.id}",
        )
        await cut(pool)
        found = await asyncio.gather(*polls.tasks)
    assert Counter(status for status, _ in found) == {200: 3 * POLLS}


async def test_polls_whose_time_is_over_in_an_overload_get_an_empty_page(caller: Api) -> None:
    polls = Polls(caller, await find_end(caller), 8)
    await polls.wait_until_open()
    async with flooding(caller):
        found = await asyncio.gather(*polls.tasks)
    assert Counter(found) == {(200, 0): 3 * POLLS}
