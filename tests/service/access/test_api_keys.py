"""API keys are shown once, stored as hashes, and refused on time by every process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

import sql
from service.access.api_keys import MAX_KEYS, KeyRequest, create_key
from service.access.authentication import Authenticator
from service.database.connect import Connection, Pool
from service.errors import Unauthorized, Unprocessable
from service.settings import Settings
from service.validation.decoding import decode_body
from tests.harness.api_client import Api, serve_api
from tests.harness.factories import make_tenant

REVOKED_WITHIN_S = 1.0
Works = Callable[[str], Awaitable[bool]]


async def create(api: Api, **fields: Any) -> Any:
    response = await api.post("/v1/api-keys", {"name": "ci", "scope": "read", **fields})
    assert response.status == 201, response.body
    return response.json


async def works(api: Api, key: str) -> bool:
    status = (await api.with_key(key).get("/v1/leads/lead_none")).status
    assert status in (401, 404)
    return status == 404


async def wait_until_refused(works_now: Works, key: str) -> float:
    """Seconds until the key is refused."""
    begun = time.monotonic()
    while time.monotonic() - begun < 5:
        if not await works_now(key):
            return time.monotonic() - begun
        await asyncio.sleep(0.02)
    raise AssertionError("the key still works after 5 s")


@pytest.fixture
def works_elsewhere(pool: Pool) -> Works:
    """A check whether another process (another Authenticator) accepts a key."""
    authenticator = Authenticator(pool)

    async def works_now(key: str) -> bool:
        try:
            await authenticator.authenticate(f"Bearer {key}", "read")
        except Unauthorized:
            return False
        return True

    return works_now


async def test_a_key_is_looked_up_once(
    api: Api, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator = Authenticator(pool)
    header = f"Bearer {api.key}"
    assert authenticator.authenticate_now(header, "read") is None
    who = await authenticator.authenticate(header, "read")
    monkeypatch.setattr(authenticator, "_find", None)  # no more look-ups
    assert authenticator.authenticate_now(header, "read") == who
    assert await authenticator.authenticate(header, "read") == who


async def test_a_key_is_shown_once_and_the_list_omits_it(api: Api, pool: Pool) -> None:
    response = await api.post("/v1/api-keys", {"name": "website", "scope": "write"})
    made = response.json
    assert response.headers["location"] == f"/v1/api-keys/{made['id']}"
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


async def test_a_new_key_has_the_mode_of_the_caller_by_default(api: Api) -> None:
    assert (await create(api))["key"].startswith("sk_live_")
    assert (await create(api, mode="test"))["key"].startswith("sk_test_")
    assert (await create(api.as_(live=False)))["key"].startswith("sk_test_")


async def test_a_test_key_manages_test_keys_only(api: Api) -> None:
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


async def test_a_revoked_key_is_refused_within_a_second_in_every_process(
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
    assert max(waits) < REVOKED_WITHIN_S
    assert (await api.delete(f"/v1/api-keys/{made['id']}")).status == 404
    listed = (await api.get("/v1/api-keys")).json["data"]
    assert made["id"] not in {row["id"] for row in listed}


async def test_a_new_key_works_at_once_although_a_similar_key_was_refused(
    api: Api, pool: Pool
) -> None:
    """The refusal of an invalid key is cached for half a second."""
    authenticator = Authenticator(pool)
    made = await create(api)
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(f"Bearer {made['key'][:-1]}0x", "read")
    principal = await authenticator.authenticate(f"Bearer {made['key']}", "read")
    assert principal.key_id == made["id"]


async def test_a_rotated_key_stays_valid_for_its_grace_period(
    api: Api, works_elsewhere: Works
) -> None:
    old = await create(api, scope="write", name="rotated")
    response = await api.post(f"/v1/api-keys/{old['id']}/rotate", {"graceSeconds": 3600})
    new = response.json
    assert response.status == 201
    assert response.headers["location"] == f"/v1/api-keys/{new['id']}"
    assert [new[name] for name in ("name", "scope", "mode")] == ["rotated", "write", "live"]
    assert new["key"] != old["key"]
    assert await works(api, old["key"])
    assert await works(api, new["key"])
    rows = {row["id"]: row for row in (await api.get("/v1/api-keys")).json["data"]}
    ends = datetime.fromisoformat(rows[old["id"]]["expiresAt"])
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=1, seconds=1)
    assert rows[new["id"]]["expiresAt"] is None

    final = await api.post(f"/v1/api-keys/{new['id']}/rotate", {"graceSeconds": 0})
    assert await wait_until_refused(works_elsewhere, new["key"]) < REVOKED_WITHIN_S
    assert await works(api, final.json["key"])
    assert (await api.post(f"/v1/api-keys/{new['id']}/rotate", {})).status == 404


async def test_a_grace_period_never_extends_a_key(api: Api) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    old = await create(api, expiresAt=soon)
    await api.post(f"/v1/api-keys/{old['id']}/rotate", {"graceSeconds": 86400})
    rows = {row["id"]: row for row in (await api.get("/v1/api-keys")).json["data"]}
    assert rows[old["id"]]["expiresAt"] == old["expiresAt"]


async def test_a_key_is_rotated_once(api: Api) -> None:
    """Another rotation would give a key that ends with the grace period of the old one."""
    old = await create(api)
    first = await api.post(f"/v1/api-keys/{old['id']}/rotate", {"graceSeconds": 60})
    again = await api.post(f"/v1/api-keys/{old['id']}/rotate", {})
    assert (again.status, again.error["code"]) == (409, "conflict")
    assert "rotate the key that replaced it" in again.error["message"]
    assert first.json["expiresAt"] is None
    assert (await api.post(f"/v1/api-keys/{first.json['id']}/rotate", {})).status == 201


@pytest.mark.parametrize("name", [" ", "\u200b", "\u3000"])
async def test_a_key_needs_a_name_that_can_be_seen(api: Api, name: str) -> None:
    refused = await api.post("/v1/api-keys", {"name": name, "scope": "read"})
    assert (refused.status, refused.error["details"][0]["field"]) == (400, "name")


@pytest.mark.parametrize("body", [None, b"", b"{}", b" "])
async def test_a_rotation_needs_no_body(api: Api, body: bytes | None) -> None:
    old = await create(api)
    response = await api.call("POST", f"/v1/api-keys/{old['id']}/rotate", body)
    assert response.status == 201, response.body
    assert response.json["id"] != old["id"]
    for other in (b"[]", b"null", b"{", b'{"a": 1}'):
        refused = await api.call("POST", f"/v1/api-keys/{response.json['id']}/rotate", other)
        assert refused.status == 400


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("9999-12-31T23:59:59.9999999", "9999-12-31T23:59:59.999Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999Z"),
        ("9999-12-31", "9999-12-31T00:00:00.000Z"),
        ("2999-01-01T00:00:00.0019999", "2999-01-01T00:00:00.001Z"),
        ("2999-01-01T00:00:00+23:59", "2998-12-31T00:01:00.000Z"),
    ],
)
async def test_an_expiry_is_stored_to_the_millisecond(api: Api, sent: str, kept: str) -> None:
    assert (await create(api, expiresAt=sent))["expiresAt"] == kept


async def test_an_expired_key_is_refused(api: Api, works_elsewhere: Works) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=0.5)
    made = await create(api, expiresAt=ends.isoformat())
    assert datetime.fromisoformat(made["expiresAt"]) == ends.replace(
        microsecond=ends.microsecond // 1000 * 1000
    )
    assert await works(api, made["key"])
    assert 0 < await wait_until_refused(works_elsewhere, made["key"]) < 0.5 + REVOKED_WITHIN_S


@pytest.mark.parametrize(
    ("expires_at", "status"),
    [("2020-01-01", 422), ("soon", 400), ("2026-13-01", 400), (17, 400), ("9999-12-31", 201)],
)
async def test_an_expiry_must_be_in_the_future(api: Api, expires_at: Any, status: int) -> None:
    body = {"name": "n", "scope": "read", "expiresAt": expires_at}
    assert (await api.post("/v1/api-keys", body)).status == status


async def test_the_database_clock_decides_whether_an_expiry_is_in_the_future(
    conn: Connection,
) -> None:
    """The clock of the process, which may be wrong, has no effect."""
    tenant = await make_tenant(conn)
    now = datetime.fromtimestamp(await conn.fetchval(sql.clock_read), UTC)
    tomorrow, yesterday = now + timedelta(days=1), now - timedelta(days=1)
    body = b'{"name": "n", "scope": "read", "expiresAt": "2020-01-01"}'
    assert decode_body(body, KeyRequest).expires_at == "2020-01-01"  # no clock is read here
    assert (await create_key(conn, tenant.id, True, "n", "read", tomorrow)).expires_at
    with pytest.raises(Unprocessable, match=r"^expiresAt must be in the future\.$"):
        await create_key(conn, tenant.id, True, "n", "read", yesterday)


async def fill_up(pool: Pool, tenant_id: int, live: bool, count: int) -> None:
    """Adds working keys until a tenant has `count` in a mode."""
    await pool.execute(
        "INSERT INTO api_key (id, tenant_id, live, name, scope, hash, last4) "
        "SELECT format('key_%s_%s_%s', $1, $2, n), $1, $2, 'n', 'read', "
        "sha256(format('%s %s %s', $1, $2, n)::bytea), 'last' FROM generate_series("
        "(SELECT count(*) FROM api_key WHERE tenant_id = $1 AND live = $2) + 1, $3::integer) n",
        tenant_id, live, count,
    )  # fmt: skip


async def test_a_tenant_has_at_most_a_thousand_working_keys_in_a_mode(api: Api, pool: Pool) -> None:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    caller = api.of(tenant)
    await fill_up(pool, tenant.id, True, MAX_KEYS - 1)
    body = {"name": "n", "scope": "read"}
    made = await asyncio.gather(*[caller.post("/v1/api-keys", body) for _ in range(5)])
    assert sorted(response.status for response in made) == [201, 422, 422, 422, 422]
    [last] = [response.json["id"] for response in made if response.status == 201]
    listed = (await caller.get("/v1/api-keys")).json["data"]
    assert len([row for row in listed if row["mode"] == "live"]) == MAX_KEYS
    assert (await caller.as_(live=False).post("/v1/api-keys", body)).status == 201
    rotate = f"/v1/api-keys/{last}/rotate"
    refused = await caller.post(rotate, {"graceSeconds": 60})
    assert (refused.status, refused.error["code"]) == (422, "unprocessable")
    rotated = await caller.post(rotate, {"graceSeconds": 0})
    assert rotated.status == 201
    assert (await caller.delete(f"/v1/api-keys/{rotated.json['id']}")).status == 204
    assert (await caller.post("/v1/api-keys", body)).status == 201


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
    response = await api.post("/v1/api-keys", body)
    assert (response.status, response.error["code"]) == (400, "invalid_request")


async def test_the_last_use_of_a_key_is_stored(api: Api, settings: Settings, pool: Pool) -> None:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    async with serve_api(settings) as url:  # its shutdown stores the last uses
        caller = Api(url, api.session, tenant, tenant.key())
        assert (await caller.get("/v1/api-keys")).status == 200
    used = await pool.fetchval(
        "SELECT max(last_used_at) FROM api_key WHERE tenant_id = $1", tenant.id
    )
    assert abs((datetime.now(UTC) - used).total_seconds()) < 10


async def test_a_last_use_in_the_future_is_corrected_by_the_next_use(
    api: Api, settings: Settings, pool: Pool
) -> None:
    """It was stored while the clock of the database was ahead."""
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    await pool.execute(
        "UPDATE api_key SET last_used_at = now() + interval '1 year' WHERE tenant_id = $1",
        tenant.id,
    )
    async with serve_api(settings) as url:
        caller = Api(url, api.session, tenant, tenant.key())
        assert (await caller.get("/v1/api-keys")).status == 200
    past = await pool.fetchval(
        "SELECT count(*) FROM api_key WHERE tenant_id = $1 AND last_used_at <= now()", tenant.id
    )
    assert past == 1
