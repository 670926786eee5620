"""Valid keys that a process has not seen, while one address sends a flood without valid keys."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable

import aiohttp
import pytest
from msgspec.structs import replace

from service.access.authentication import Authenticator
from service.database.connect import Pool
from service.load.owner import KnownKeys
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.harness.factories import make_tenant

LIMIT_S = 0.01
CLIENTS = 100


def make_up_key() -> str:
    return f"sk_live_{secrets.token_hex(16)}"


def name_header(key: str) -> bytes:
    return f"Bearer {key}".encode()


@pytest.mark.parametrize("find_key", [make_up_key, lambda: None], ids=["made-up keys", "no keys"])
async def test_a_flood_without_a_valid_key_causes_no_refusal_of_valid_keys(
    settings: Settings, api: Api, find_key: Callable[[], str | None]
) -> None:
    keys = [
        (await api.post("/v1/api-keys", {"name": "new", "scope": "read"})).json["key"]
        for _ in range(20)
    ]
    async with (
        serve_api(replace(settings, shed_after_s=LIMIT_S)) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        mine, over = Api(url, session, api.tenant, api.key), asyncio.Event()
        flood: Counter[int] = Counter()

        async def pour() -> None:
            while not over.is_set():
                flood[(await mine.with_key(find_key()).get("/v1/leads")).status] += 1

        pouring = [asyncio.create_task(pour()) for _ in range(CLIENTS)]
        async with asyncio.timeout(20):
            while flood.total() < 5 * CLIENTS:  # noqa: ASYNC110  # longer than a first crowd
                await asyncio.sleep(0.01)
        statuses = [(await mine.with_key(key).get("/v1/leads", limit=1)).status for key in keys]
        over.set()
        await asyncio.gather(*pouring)
    assert statuses == [200] * len(keys)
    assert set(flood) == {401}


async def test_made_up_keys_take_bounded_memory_and_displace_no_valid_key(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.access.authentication.CACHE_SIZE", 50)
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    known = KnownKeys()
    auth = Authenticator(pool, known_keys=known)
    valid = name_header(tenant.key("read"))
    assert await auth.is_valid(valid)
    for _ in range(5):
        found = await asyncio.gather(
            *(auth.is_valid(name_header(make_up_key())) for _ in range(40))
        )
        assert not any(found)
        assert len(auth._invalid) <= 50
    assert len(auth._cache) == 1
    assert known.find(valid) is not None


async def test_another_spelling_of_the_header_of_a_known_key_is_valid(
    pool: Pool,
) -> None:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    known = KnownKeys()
    auth = Authenticator(pool, known_keys=known)
    assert await auth.is_valid(name_header(tenant.key()))
    spelled = f"bearer {tenant.key()}".encode()
    assert await auth.is_valid(spelled)
    assert known.find(spelled) == known.find(name_header(tenant.key()))
    for header in (b"Basic abc", b"Bearer sk_live_short", "Bearer é".encode(), b""):
        assert not await auth.is_valid(header)
