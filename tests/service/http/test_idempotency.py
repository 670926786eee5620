"""Idempotency-Key: a repeated request is executed once and gets the first response."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from service.database.connect import Pool
from service.encryption import make_encryptor
from service.settings import Settings
from tests.harness.api_client import Api, ApiResponse, serve_api
from tests.service.leads.test_leads import list_events


async def send(
    api: Api, method: str, path: str, body: Any, key: str | None = None, **headers: str
) -> ApiResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent["Idempotency-Key"] = key
    raw = body if isinstance(body, str | bytes) else json.dumps(body)
    return await api.call(method, path, raw, headers=sent)


def make_lead_body(**fields: Any) -> dict[str, Any]:
    return {"email": f"{uuid4()}@example.com", **fields}


def is_replay(answer: ApiResponse) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


@pytest.fixture
async def second(
    settings: Settings, api: Api, session: aiohttp.ClientSession
) -> AsyncIterator[Api]:
    """The same caller at another process of the service."""
    async with serve_api(settings) as url:
        yield Api(url, session, api.tenant, api.key)


async def test_a_repeated_create_makes_one_lead_and_gets_the_same_bytes(
    api: Api, pool: Pool
) -> None:
    key, body = str(uuid4()), make_lead_body(name="Zoë 😀", customFields={"z": 1, "a": None})
    first = await send(api, "POST", "/v1/leads", body, key)
    await api.patch(first.headers["location"], {"name": "changed since"})
    again = await send(api, "POST", "/api/v1/leads", body, key)

    assert (first.status, is_replay(first)) == (201, False)
    assert (again.status, is_replay(again)) == (201, True)
    assert again.body == first.body
    for name in ("location", "etag", "content-type"):
        assert again.headers[name] == first.headers[name]
    events = await list_events(pool, first.json["id"])
    assert [event[0] for event in events] == ["lead.created", "lead.updated"]


async def test_a_repeated_patch_changes_once(api: Api, pool: Pool) -> None:
    lead = (await api.post("/v1/leads", make_lead_body(name="one"))).json
    key, path = str(uuid4()), f"/v1/leads/{lead['id']}"
    first = await send(api, "PATCH", path, {"name": "two"}, key)
    await api.patch(path, {"name": "three"})
    again = await send(api, "PATCH", path, {"name": "two"}, key)

    assert (again.status, again.body, is_replay(again)) == (200, first.body, True)
    assert again.headers["etag"] == first.headers["etag"] == '"2.2.0"'
    assert (await api.get(path)).json["name"] == "three"
    assert len(await list_events(pool, lead["id"])) == 3


async def test_the_response_to_a_patch_that_changes_nothing_is_stored(api: Api) -> None:
    lead = (await api.post("/v1/leads", make_lead_body(name="one"))).json
    key, path = str(uuid4()), f"/v1/leads/{lead['id']}"
    first = await send(api, "PATCH", path, {"name": "one"}, key)
    await api.patch(path, {"name": "two"})
    assert (await send(api, "PATCH", path, {"name": "one"}, key)).body == first.body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": "no address"}, 422),
        ({"email": "a@example.com", "nmae": "?"}, 400),
        ("{", 400),
        ({"email": "taken-for-idempotency@example.com"}, 409),
    ],
)
async def test_a_refusal_is_stored_unchanged(api: Api, body: Any, status: int) -> None:
    await api.post("/v1/leads", {"email": "taken-for-idempotency@example.com"})
    key = str(uuid4())
    first = await send(api, "POST", "/v1/leads", body, key)
    again = await send(api, "POST", "/v1/leads", body, key)
    assert (first.status, is_replay(first)) == (status, False)
    assert (again.status, again.body, is_replay(again)) == (status, first.body, True)


async def test_a_refused_create_stays_refused_when_the_address_is_free_again(api: Api) -> None:
    body, key = make_lead_body(), str(uuid4())
    holder = await api.post("/v1/leads", body)
    refused = await send(api, "POST", "/v1/leads", body, key)
    await api.delete(holder.headers["location"])
    assert refused.status == 409
    assert (await send(api, "POST", "/v1/leads", body, key)).body == refused.body
    assert (await send(api, "POST", "/v1/leads", body, str(uuid4()))).status == 201


async def test_the_404_and_the_412_of_a_patch_are_stored(api: Api) -> None:
    lead = (await api.post("/v1/leads", make_lead_body())).json
    for path, headers, status in (
        ("/v1/leads/lead_nowhere", {}, 404),
        (f"/v1/leads/{lead['id']}", {"If_Match": '"9"'}, 412),
    ):
        key = str(uuid4())
        first = await send(api, "PATCH", path, {"name": "x"}, key, **headers)
        again = await send(api, "PATCH", path, {"name": "x"}, key, **headers)
        assert (first.status, again.status, is_replay(again)) == (status, status, True)


async def test_another_request_with_the_same_key_is_422_and_changes_nothing(
    api: Api, pool: Pool
) -> None:
    key, body = str(uuid4()), make_lead_body()
    lead = (await send(api, "POST", "/v1/leads", body, key)).json
    path = f"/v1/leads/{lead['id']}"
    await send(api, "PATCH", path, {"name": "x"}, key)  # another route: another scope of keys
    for method, where, other, headers in (
        ("POST", "/v1/leads", make_lead_body(), {}),
        ("POST", "/v1/leads", "{", {}),
        ("PATCH", path, {"name": "y"}, {}),
        ("PATCH", path, {"name": "x"}, {"If_Match": "*"}),
        ("PATCH", "/v1/leads/lead_other", {"name": "x"}, {}),
    ):
        answer = await send(api, method, where, other, key, **headers)
        assert answer.status == 422, (method, other, answer.body)
        assert answer.error["details"][0]["field"] == "Idempotency-Key"
    assert len(await list_events(pool, lead["id"])) == 2


async def test_the_same_key_of_another_tenant_or_mode_is_another_key(api: Api, other: Any) -> None:
    key, body = str(uuid4()), make_lead_body()
    callers = [api, api.as_(live=False), api.of(other)]
    ids = {(await send(each, "POST", "/v1/leads", body, key)).json["id"] for each in callers}
    assert len(ids) == 3


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\there", "\xe9"])
async def test_an_invalid_key_is_400_and_changes_nothing(api: Api, key: str) -> None:
    body = make_lead_body()
    answer = await send(api, "POST", "/v1/leads", body, key)
    assert answer.status == 400
    assert answer.error["details"][0]["field"] == "Idempotency-Key"
    assert (await api.post("/v1/leads", body)).status == 201


async def test_reads_and_deletes_ignore_the_header(api: Api) -> None:
    path = (await api.post("/v1/leads", make_lead_body())).headers["location"]
    headers = {"Idempotency-Key": ""}
    assert (await api.call("GET", path, headers=headers)).status == 200
    assert (await api.call("DELETE", path, headers=headers)).status == 204


async def test_a_request_with_a_wrong_content_type_leaves_its_key_unused(api: Api) -> None:
    key, body = str(uuid4()), make_lead_body()
    wrong = await send(api, "POST", "/v1/leads", body, key, Content_Type="text/plain")
    right = await send(api, "POST", "/v1/leads", body, key)
    assert (wrong.status, right.status, is_replay(right)) == (415, 201, False)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/leads", {"email": "one-of-many-repeats@example.com"}),
        ("/v1/leads", {"email": "no address"}),
        ("/v1/webhooks", {"url": "http://127.0.0.1:9/hook", "events": ["lead.created"]}),
        ("/v1/webhooks/wh_nowhere/test", ""),
    ],
)
async def test_each_of_many_concurrent_repeats_gets_the_stored_response(
    api: Api, second: Api, path: str, body: Any
) -> None:
    key = str(uuid4())
    first = await send(api, "POST", path, body, key)
    repeats = await asyncio.gather(
        *(send((api, second)[n % 2], "POST", path, body, key) for n in range(40))
    )
    assert {(each.status, each.body, is_replay(each)) for each in repeats} == {
        (first.status, first.body, True)
    }


async def test_a_repeat_is_409_only_while_the_first_request_is_in_progress(
    api: Api, second: Api, pool: Pool
) -> None:
    body = {"url": "http://127.0.0.1:9/hook", "events": ["lead.created"]}
    path = (await api.post("/v1/webhooks", body)).headers["location"]
    sent: tuple[str, str, Any, str] = "PATCH", path, {"description": "x"}, str(uuid4())
    async with pool.acquire() as conn, conn.transaction():
        endpoint_id = path.rpartition("/")[2]
        await conn.execute("SELECT 1 FROM endpoint WHERE id = $1 FOR UPDATE", endpoint_id)
        first = asyncio.create_task(send(api, *sent))
        await asyncio.sleep(0.3)
        early = [await send(each, *sent) for each in (api, second)]
        assert not first.done()
    done = await first
    assert [each.status for each in early] == [409, 409]
    late = [await send(each, *sent) for each in (api, second)]
    assert [(each.status, each.body) for each in late] == [(200, done.body)] * 2


async def test_a_request_that_another_process_finishes_meanwhile_gets_its_response(
    api: Api, second: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def wait_once(*_: Any, **__: Any) -> None:
        if not begun.is_set():
            begun.set()
            await released.wait()

    monkeypatch.setattr("service.handlers.webhooks.check_target", wait_once)
    key, body = str(uuid4()), {"url": "http://127.0.0.1:9/hook", "events": ["lead.created"]}
    slow = asyncio.create_task(send(second, "POST", "/v1/webhooks", body, key))
    await begun.wait()
    quick = await send(api, "POST", "/v1/webhooks", body, key)
    released.set()
    late = await slow
    assert (quick.status, is_replay(quick)) == (201, False)
    assert (late.status, late.body, is_replay(late)) == (201, quick.body, True)


@pytest.mark.parametrize("keyed", ["one key", "a key each"])
async def test_hundreds_of_concurrent_creates_in_two_processes_make_one_lead(
    api: Api, second: Api, pool: Pool, keyed: str
) -> None:
    body, key = make_lead_body(), str(uuid4())
    answers = await asyncio.gather(
        *(
            send(
                (api, second)[n % 2], "POST", "/v1/leads", body,
                key if keyed == "one key" else f"{key} {n}",
            )
            for n in range(300)
        )
    )  # fmt: skip
    statuses = Counter((answer.status, is_replay(answer)) for answer in answers)
    assert statuses[201, False] == 1
    made = {answer.json["id"] for answer in answers if answer.status == 201}
    assert len(made) == 1
    if keyed == "one key":  # the others are too early, or get the first response
        assert set(statuses) <= {(201, False), (201, True), (409, False)}
        assert len({answer.body for answer in answers if answer.status == 201}) == 1
        late = await send(second, "POST", "/v1/leads", body, key)
        assert (late.status, is_replay(late)) == (201, True)
    else:
        assert statuses[409, False] == 299
    assert len(await list_events(pool, made.pop())) == 1


async def test_hundreds_of_concurrent_patches_change_once_per_key(
    api: Api, second: Api, pool: Pool
) -> None:
    lead = (await api.post("/v1/leads", make_lead_body())).json
    path, key = f"/v1/leads/{lead['id']}", str(uuid4())
    keys = [f"{key}-{n % 10}" for n in range(300)]
    answers = await asyncio.gather(
        *(
            send((api, second)[n // 10 % 2], "PATCH", path, {"name": each}, each)
            for n, each in enumerate(keys)
        )
    )
    assert {answer.status for answer in answers} <= {200, 409}
    fresh = [answer for answer in answers if answer.status == 200 and not is_replay(answer)]
    assert len(fresh) == 10
    versions = [event[1] for event in await list_events(pool, lead["id"])]
    assert versions == list(range(1, 12))


async def test_each_key_for_one_address_in_one_batch_gets_its_own_response(api: Api) -> None:
    body, key = make_lead_body(), str(uuid4())
    answers = await asyncio.gather(
        *(send(api, "POST", "/v1/leads", body, f"{key} {n}") for n in range(50))
    )
    again = [await send(api, "POST", "/v1/leads", body, f"{key} {n}") for n in range(50)]
    assert [answer.body for answer in again] == [answer.body for answer in answers]
    assert all(is_replay(answer) for answer in again)


async def test_an_api_key_is_created_once_and_its_secret_is_stored_encrypted(
    api: Api, pool: Pool, settings: Settings
) -> None:
    key, body = str(uuid4()), {"name": "for a partner", "scope": "read"}
    first = await send(api, "POST", "/v1/api-keys", body, key)
    again = await send(api, "POST", "/v1/api-keys", body, key)
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert is_replay(again)
    rows = await pool.fetch(
        "SELECT t::text AS row, sealed FROM idempotent_response t WHERE sealed IS NOT NULL"
    )
    assert rows
    assert all(first.json["key"] not in row["row"] for row in rows)
    keys = (await api.get("/v1/api-keys")).json["data"]
    assert [each["name"] for each in keys].count("for a partner") == 1
    assert make_encryptor(settings).current_key_id == rows[0]["sealed"][:4]


async def test_each_request_about_a_webhook_is_executed_once(api: Api, second: Api) -> None:
    body = {"url": "http://127.0.0.1:9/hook", "events": ["lead.created"]}
    key = str(uuid4())
    answers = await asyncio.gather(
        *(send((api, second)[n % 2], "POST", "/v1/webhooks", body, key) for n in range(40))
    )
    assert {answer.status for answer in answers} <= {201, 409}
    (made,) = {answer.body for answer in answers if answer.status == 201}
    path = f"/v1/webhooks/{json.loads(made)['id']}"
    assert [each["id"] for each in (await api.get("/v1/webhooks")).json["data"]].count(
        json.loads(made)["id"]
    ) == 1
    for method, where, sent in (
        ("PATCH", path, {"description": "x"}),
        ("POST", f"{path}/rotate-secret", ""),
        ("POST", f"{path}/test", ""),
        ("POST", f"{path}/replay", {"since": "2026-01-01T00:00:00Z"}),
    ):
        first = await send(api, method, where, sent, key)
        again = await send(second, method, where, sent, key)
        assert first.status in {200, 202}, (where, first.body)
        assert (again.status, again.body, is_replay(again)) == (first.status, first.body, True)


async def test_a_refusal_inside_the_transaction_is_stored(api: Api) -> None:
    key = str(uuid4())
    first = await send(api, "POST", "/v1/webhooks/wh_nowhere/test", "", key)
    again = await send(api, "POST", "/v1/webhooks/wh_nowhere/test", "", key)
    assert (first.status, again.status, again.body) == (404, 404, first.body)
    assert is_replay(again)
