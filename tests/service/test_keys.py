"""API keys: shown once, kept as hashes, ended on time in every process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from service.auth import Authenticator
from service.db import Pool
from service.errors import Unauthorized
from service.settings import Settings
from tests.factories import make_tenant
from tests.serving import Api, serve_api

TOLD_WITHIN_S = 1.0
Works = Callable[[str], Awaitable[bool]]


async def create(api: Api, **fields: Any) -> Any:
    answer = await api.post("/v1/api-keys", {"name": "ci", "scope": "read", **fields})
    assert answer.status == 201, answer.body
    return answer.json


async def works(api: Api, key: str) -> bool:
    status = (await api.with_key(key).get("/v1/leads/lead_none")).status
    assert status in (401, 404)
    return status == 404


async def wait_until_refused(works_now: Works, key: str) -> float:
    """Seconds until the key does not work any more."""
    begun = time.monotonic()
    while time.monotonic() - begun < 5:
        if not await works_now(key):
            return time.monotonic() - begun
        await asyncio.sleep(0.02)
    raise AssertionError("the key still works after 5 s")


@pytest.fixture
def works_elsewhere(pool: Pool) -> Works:
    """Whether another process takes a key."""
    authenticator = Authenticator(pool)

    async def works_now(key: str) -> bool:
        try:
            await authenticator.authenticate(f"Bearer {key}", "read")
        except Unauthorized:
            return False
        return True

    return works_now


async def test_a_look_up_is_believed_by_all_who_ask(
    api: Api, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator = Authenticator(pool)
    header = f"Bearer {api.key}"
    assert authenticator.authenticate_now(header, "read") is None
    who = await authenticator.authenticate(header, "read")
    monkeypatch.setattr(authenticator, "_find", None)  # no more look-ups
    assert authenticator.authenticate_now(header, "read") == who
    assert await authenticator.authenticate(header, "read") == who


async def test_a_key_is_shown_once_and_listed_without_itself(api: Api, pool: Pool) -> None:
    answer = await api.post("/v1/api-keys", {"name": "website", "scope": "write"})
    made = answer.json
    assert answer.headers["location"] == f"/v1/api-keys/{made['id']}"
    assert list(made) == [
        "id", "name", "scope", "mode", "key", "last4", "createdAt", "expiresAt", "lastUsedAt",
    ]  # fmt: skip
    assert (made["name"], made["scope"], made["mode"]) == ("website", "write", "live")
    assert made["key"].startswith("sk_live_")
    assert made["last4"] == made["key"][-4:]
    assert await works(api, made["key"])
    listed = await api.get("/v1/api-keys")
    row = next(row for row in listed.json["data"] if row["id"] == made["id"])
    assert row == {name: value for name, value in made.items() if name != "key"}
    assert made["key"].encode() not in listed.body
    stored = await pool.fetchval("SELECT k::text FROM api_key AS k WHERE id = $1", made["id"])
    assert made["key"] not in stored
    assert made["key"].removeprefix("sk_live_") not in stored


async def test_a_key_is_of_its_makers_mode_unless_told_otherwise(api: Api) -> None:
    assert (await create(api))["key"].startswith("sk_live_")
    assert (await create(api, mode="test"))["key"].startswith("sk_test_")
    assert (await create(api.as_(live=False)))["key"].startswith("sk_test_")


async def test_a_test_key_reaches_test_keys_only(api: Api) -> None:
    mine = await create(api)
    tester = api.as_(live=False)
    made = await tester.post("/v1/api-keys", {"name": "up", "scope": "admin", "mode": "live"})
    assert (made.status, made.error["code"]) == (403, "forbidden")
    listed = (await tester.get("/v1/api-keys")).json["data"]
    assert {row["mode"] for row in listed} == {"test"}
    assert (await tester.delete(f"/v1/api-keys/{mine['id']}")).status == 404
    assert (await tester.post(f"/v1/api-keys/{mine['id']}/rotate", {})).status == 404
    assert await works(api, mine["key"])
    test_key = await create(tester)
    assert (await api.delete(f"/v1/api-keys/{test_key['id']}")).status == 204


async def test_a_revoked_key_ends_within_a_second_in_every_process(
    api: Api, works_elsewhere: Works
) -> None:
    made = await create(api)
    assert await works_elsewhere(made["key"])
    assert await works(api, made["key"])
    assert (await api.delete(f"/v1/api-keys/{made['id']}")).status == 204
    waits = await asyncio.gather(
        wait_until_refused(works_elsewhere, made["key"]),
        wait_until_refused(partial(works, api), made["key"]),
    )
    assert max(waits) < TOLD_WITHIN_S
    assert (await api.delete(f"/v1/api-keys/{made['id']}")).status == 404
    listed = (await api.get("/v1/api-keys")).json["data"]
    assert made["id"] not in {row["id"] for row in listed}


async def test_a_key_that_has_just_been_made_works_where_it_was_tried_before(
    api: Api, pool: Pool
) -> None:
    """A made-up key that was refused a moment ago is believed to be none for half a second."""
    authenticator = Authenticator(pool)
    made = await create(api)
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(f"Bearer {made['key'][:-1]}0x", "read")
    principal = await authenticator.authenticate(f"Bearer {made['key']}", "read")
    assert principal.key_id == made["id"]


async def test_a_rotated_key_works_on_for_its_grace(api: Api, works_elsewhere: Works) -> None:
    old = await create(api, scope="write", name="rotated")
    answer = await api.post(f"/v1/api-keys/{old['id']}/rotate", {"graceSeconds": 3600})
    new = answer.json
    assert answer.status == 201
    assert answer.headers["location"] == f"/v1/api-keys/{new['id']}"
    assert [new[name] for name in ("name", "scope", "mode")] == ["rotated", "write", "live"]
    assert new["key"] != old["key"]
    assert await works(api, old["key"])
    assert await works(api, new["key"])
    rows = {row["id"]: row for row in (await api.get("/v1/api-keys")).json["data"]}
    ends = datetime.fromisoformat(rows[old["id"]]["expiresAt"])
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=1, seconds=1)
    assert rows[new["id"]]["expiresAt"] is None

    final = await api.post(f"/v1/api-keys/{new['id']}/rotate", {"graceSeconds": 0})
    assert await wait_until_refused(works_elsewhere, new["key"]) < TOLD_WITHIN_S
    assert await works(api, final.json["key"])
    assert (await api.post(f"/v1/api-keys/{new['id']}/rotate", {})).status == 404


async def test_a_grace_never_lengthens_a_keys_life(api: Api) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    old = await create(api, expiresAt=soon)
    await api.post(f"/v1/api-keys/{old['id']}/rotate", {"graceSeconds": 86400})
    rows = {row["id"]: row for row in (await api.get("/v1/api-keys")).json["data"]}
    assert rows[old["id"]]["expiresAt"] == old["expiresAt"]


async def test_a_key_ends_when_it_expires(api: Api, works_elsewhere: Works) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=0.5)
    made = await create(api, expiresAt=ends.isoformat())
    assert datetime.fromisoformat(made["expiresAt"]) == ends.replace(
        microsecond=ends.microsecond // 1000 * 1000
    )
    assert await works(api, made["key"])
    assert 0 < await wait_until_refused(works_elsewhere, made["key"]) < 0.5 + TOLD_WITHIN_S


@pytest.mark.parametrize(
    ("expires_at", "status"),
    [("2020-01-01", 422), ("soon", 400), ("2026-13-01", 400), (17, 400), ("9999-12-31", 201)],
)
async def test_an_end_must_be_a_time_to_come(api: Api, expires_at: Any, status: int) -> None:
    body = {"name": "n", "scope": "read", "expiresAt": expires_at}
    assert (await api.post("/v1/api-keys", body)).status == status


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(
    "body",
    [
        {}, {"name": "n"}, {"name": "", "scope": "read"}, {"name": "x" * 101, "scope": "read"},
        {"name": "n", "scope": "root"}, {"name": "n", "scope": "read", "mode": "both"},
        {"name": "n", "scope": "read", "key": "sk_live_mine"},
    ],
)  # fmt: skip
async def test_a_key_needs_a_name_and_a_scope_and_takes_no_secret(
    api: Api, body: dict[str, Any]
) -> None:
    answer = await api.post("/v1/api-keys", body)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")


async def test_the_last_use_of_a_key_is_written_down(
    api: Api, settings: Settings, pool: Pool
) -> None:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    async with serve_api(settings) as url:  # leaving it writes what the timer has not yet
        caller = Api(url, api.session, tenant, tenant.key())
        assert (await caller.get("/v1/api-keys")).status == 200
    used = await pool.fetchval(
        "SELECT max(last_used_at) FROM api_key WHERE tenant_id = $1", tenant.id
    )
    assert abs((datetime.now(UTC) - used).total_seconds()) < 10
