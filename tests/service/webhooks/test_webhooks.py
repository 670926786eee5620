"""/v1/webhooks: create, read, list and delete endpoints."""

import asyncio
import re
import socket
from typing import Any

import pytest
from msgspec.structs import replace

from service.database.connect import Pool
from service.settings import Settings
from service.webhooks.secrets import decode_secret
from tests.harness.api_client import Api, serve_api
from tests.harness.factories import Tenant

URL = "https://8.8.8.8/hook"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def make(api: Api, **fields: Any) -> str:
    response = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.created"], **fields})
    assert response.status == 201, response.body
    return str(response.json["id"])


async def test_a_generated_secret_is_shown_only_once(api: Api) -> None:
    response = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.created"]})
    assert response.status == 201
    made = response.json
    assert list(made)[:5] == ["id", "url", "events", "status", "createdAt"]
    assert re.fullmatch(r"wh_[0-9A-Z]{26}", made["id"])
    assert (made["url"], made["events"], made["status"]) == (URL, ["lead.created"], "active")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["createdAt"])
    assert len(decode_secret(made["secret"])) == 32
    assert response.headers["location"] == f"/v1/webhooks/{made['id']}"
    one = await api.get(response.headers["location"])
    assert made == one.json | {"secret": made["secret"]}
    assert made["secret"] not in (await api.get("/v1/webhooks")).body.decode()


async def test_a_given_secret_is_not_returned_and_not_stored_in_plain_text(
    api: Api, pool: Pool
) -> None:
    body = {"url": URL, "events": ["lead.created", "lead.deleted"], "secret": SECRET}
    response = await api.post("/v1/webhooks", body)
    assert "secret" not in response.json
    sealed = await pool.fetchval(
        "SELECT sealed FROM endpoint_secret WHERE endpoint_id = $1", response.json["id"]
    )
    assert decode_secret(SECRET) not in sealed
    assert SECRET.encode() not in sealed


async def test_secrets_are_in_no_log_line(
    settings: Settings, api: Api, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serve_api(replace(settings, log_level="debug")) as url:
        loud = Api(url, api.session, api.tenant, api.key)
        response = await loud.post("/v1/webhooks", {"url": URL, "events": ["lead.created"]})
        await loud.post("/v1/webhooks", {"url": URL, "events": ["x"], "secret": SECRET})
    out, err = capfd.readouterr()
    assert response.json["secret"].removeprefix("whsec_") not in out + err
    assert SECRET.removeprefix("whsec_") not in out + err


READING = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND query LIKE '%/* endpoint_list */%' AND pid <> pg_backend_pid()
"""


async def test_a_tenant_reads_one_whole_list_at_a_time(api: Api, other: Tenant, pool: Pool) -> None:
    callers = [api, api, api.as_(live=False), api.of(other)]
    for caller in callers:  # authenticates it
        assert (await caller.get("/v1/webhooks")).status == 200
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE endpoint IN ACCESS EXCLUSIVE MODE")
        lists = [asyncio.create_task(caller.get("/v1/webhooks")) for caller in callers]
        seen = [0]
        while seen[-1] < 2 and not all(each.done() for each in lists):  # one of each tenant
            seen.append(await pool.fetchval(READING))
        for _ in range(10):
            await asyncio.sleep(0.02)
            seen.append(await pool.fetchval(READING))
        assert max(seen) == 2
    assert {(await each).status for each in lists} <= {200, 503}  # 503: the lock took too long
    assert (await api.get("/v1/webhooks")).status == 200


async def test_webhooks_are_listed_oldest_first_without_deleted_ones(api: Api) -> None:
    ids = [await make(api.as_(live=False)) for _ in range(3)]
    listed = (await api.as_(live=False).get("/v1/webhooks")).json["data"]
    assert [item["id"] for item in listed] == ids
    assert listed[0]["events"] == ["lead.created"]
    assert (await api.as_(live=False).delete(f"/v1/webhooks/{ids[1]}")).status == 204
    assert (await api.as_(live=False).delete(f"/v1/webhooks/{ids[1]}")).status == 404
    listed = (await api.as_(live=False).get("/v1/webhooks")).json["data"]
    assert [item["id"] for item in listed] == [ids[0], ids[2]]


async def test_another_tenant_and_the_other_mode_see_nothing(api: Api, other: Tenant) -> None:
    endpoint_id = await make(api)
    for stranger in (api.of(other), api.as_(live=False)):
        for method in ("GET", "DELETE"):
            response = await stranger.call(method, f"/v1/webhooks/{endpoint_id}")
            assert (response.status, response.error["code"]) == (404, "not_found")
        assert endpoint_id not in (await stranger.get("/v1/webhooks")).body.decode()
    assert (await api.get(f"/v1/webhooks/{endpoint_id}")).status == 200


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_only_admin_keys_may_use_webhooks(api: Api, scope: Any) -> None:
    endpoint_id = await make(api)
    caller = api.as_(scope)
    responses = [
        await caller.get("/v1/webhooks"),
        await caller.get(f"/v1/webhooks/{endpoint_id}"),
        await caller.delete(f"/v1/webhooks/{endpoint_id}"),
        await caller.post("/v1/webhooks", {"url": URL, "events": ["lead.created"]}),
    ]
    assert [response.status for response in responses] == [403] * 4


@pytest.mark.parametrize(
    ("change", "status", "field", "code"),
    [
        ({"url": "ftp://example.com"}, 422, "url", "invalid_url"),
        ({"url": "https://u:p@example.com"}, 422, "url", "invalid_url"),
        ({"url": "https://example.com/#x"}, 422, "url", "invalid_url"),
        ({"url": "https://example.com/" + "a" * 3000}, 400, "url", "too_long"),
        ({"url": ""}, 400, "url", "too_short"),
        ({"url": None}, 400, "url", "invalid_type"),
        ({"url": "http://169.254.169.254/"}, 422, "url", "blocked_address"),
        ({"url": "http://127.1/"}, 422, "url", "blocked_address"),
        ({"events": []}, 400, "events", "too_short"),
        ({"events": ["lead.exploded"]}, 400, "events.0", "invalid_value"),
        ({"events": "lead.created"}, 400, "events", "invalid_type"),
        ({"secret": "hunter2"}, 422, "secret", "invalid_secret"),
        ({"secret": "whsec_c2hvcnQ="}, 422, "secret", "invalid_secret"),
        ({"secret": "whsec_" + "A" * 88}, 422, "secret", "invalid_secret"),
        ({"secret": "whsec_ÄÖÜ"}, 422, "secret", "invalid_secret"),
        ({"secret": 5}, 400, "secret", "invalid_type"),
        ({"createdAt": "2026-01-01T00:00:00Z"}, 400, "createdAt", "read_only"),
        ({"colour": "red"}, 400, "colour", "unknown_field"),
    ],
)
async def test_bad_input_is_refused_and_changes_nothing(
    api: Api, change: dict[str, Any], status: int, field: str, code: str
) -> None:
    before = (await api.get("/v1/webhooks")).body
    response = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.created"], **change})
    assert response.status == status, response.body
    assert [(f["field"], f["code"]) for f in response.error["details"]] == [(field, code)]
    assert (await api.get("/v1/webhooks")).body == before


async def test_a_response_lists_all_faults_at_once(api: Api) -> None:
    response = await api.post("/v1/webhooks", {"url": "x", "events": ["y"], "secret": "z", "w": 1})
    assert response.status == 400
    fields = [fault["field"] for fault in response.error["details"]]
    assert sorted(fields) == ["events.0", "secret", "url", "w"]


async def test_a_url_of_this_machine_is_refused_in_production(settings: Settings, api: Api) -> None:
    async with serve_api(replace(settings, webhook_allow_private=False)) as url:
        strict = Api(url, api.session, api.tenant, api.key)
        for target in ("https://localhost/", "https://127.0.0.1/", "https://[::1]/"):
            response = await strict.post(
                "/v1/webhooks", {"url": target, "events": ["lead.created"]}
            )
            assert response.status == 422, target
            assert response.error["details"][0]["code"] == "blocked_address"
        plain = await strict.post(
            "/v1/webhooks", {"url": "http://8.8.8.8/", "events": ["lead.created"]}
        )
        assert plain.error["details"][0]["code"] == "invalid_url"


@pytest.mark.parametrize(
    ("addresses", "status"),
    [
        (["8.8.8.8"], 201), (["10.0.0.1"], 422), (["8.8.8.8", "192.168.1.1"], 422),
        (["2606:4700::1", "fd00::1"], 422), (["169.254.169.254"], 422), ([], 201),
    ],
)  # fmt: skip
async def test_a_name_that_resolves_to_a_private_address_is_refused(
    settings: Settings, api: Api, monkeypatch: pytest.MonkeyPatch, addresses: list[str], status: int
) -> None:
    system_getaddrinfo = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **options: Any) -> Any:
        if host != "hook.test":
            return system_getaddrinfo(host, *rest, **options)
        if not addresses:  # the name may resolve later
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    before = (await api.get("/v1/webhooks")).body
    async with serve_api(replace(settings, webhook_allow_private=False)) as url:
        strict = Api(url, api.session, api.tenant, api.key)
        body = {"url": "https://hook.test/", "events": ["lead.created"]}
        made = await strict.post("/v1/webhooks", body)
        known = await make(api)
        moved = await strict.patch(f"/v1/webhooks/{known}", {"url": body["url"]})
    assert (made.status, moved.status) == (status, 200 if status == 201 else 422)
    if status != 201:
        fault = made.error["details"][0]
        assert (fault["field"], fault["code"]) == ("url", "blocked_address")
        await api.delete(f"/v1/webhooks/{known}")
        assert (await api.get("/v1/webhooks")).body == before


async def test_without_secret_key_the_error_names_the_setting(settings: Settings, api: Api) -> None:
    async with serve_api(replace(settings, secret_key=None)) as url:
        keyless = Api(url, api.session, api.tenant, api.key)
        response = await keyless.post("/v1/webhooks", {"url": URL, "events": ["lead.created"]})
        assert (response.status, response.error["code"]) == (503, "unavailable")
        assert "SECRET_KEY" in response.error["message"]


async def test_the_same_event_named_twice_counts_once(api: Api) -> None:
    endpoint_id = await make(api, events=["lead.created", "lead.deleted", "lead.created"])
    found = (await api.get(f"/v1/webhooks/{endpoint_id}")).json
    assert found["events"] == ["lead.created", "lead.deleted"]
