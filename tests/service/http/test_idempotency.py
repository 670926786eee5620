"""Idempotency-Key: what is repeated is done once, and answered as the first time."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from service.db import Pool
from service.secretbox import make_box
from service.settings import Settings
from tests.service.leads.test_leads import list_events
from tests.serving import Answer, Api, serve_api


async def send(
    api: Api, method: str, path: str, body: Any, key: str | None = None, **headers: str
) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent["Idempotency-Key"] = key
    raw = body if isinstance(body, str | bytes) else json.dumps(body)
    return await api.call(method, path, raw, headers=sent)


def make_lead_body(**fields: Any) -> dict[str, Any]:
    return {"email": f"{uuid4()}@example.com", **fields}


def is_replay(answer: Answer) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


@pytest.fixture
async def second(
    settings: Settings, api: Api, session: aiohttp.ClientSession
) -> AsyncIterator[Api]:
    """The same caller at another process of the same service."""
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
    assert again.headers["etag"] == first.headers["etag"] == '"2.0"'
    assert (await api.get(path)).json["name"] == "three"
    assert len(await list_events(pool, lead["id"])) == 3


async def test_a_patch_that_changes_nothing_is_kept_too(api: Api) -> None:
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
async def test_a_refusal_is_kept_as_it_was(api: Api, body: Any, status: int) -> None:
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


async def test_a_patch_of_nothing_and_a_condition_that_fails_are_kept(api: Api) -> None:
    lead = (await api.post("/v1/leads", make_lead_body())).json
    for path, headers, status in (
        ("/v1/leads/lead_nowhere", {}, 404),
        (f"/v1/leads/{lead['id']}", {"If_Match": '"9"'}, 412),
    ):
        key = str(uuid4())
        first = await send(api, "PATCH", path, {"name": "x"}, key, **headers)
        again = await send(api, "PATCH", path, {"name": "x"}, key, **headers)
        assert (first.status, again.status, is_replay(again)) == (status, status, True)


async def test_another_request_under_the_key_is_422_and_does_nothing(api: Api, pool: Pool) -> None:
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


async def test_keys_of_other_tenants_and_modes_are_other_keys(api: Api, other: Any) -> None:
    key, body = str(uuid4()), make_lead_body()
    callers = [api, api.as_(live=False), api.of(other)]
    ids = {(await send(each, "POST", "/v1/leads", body, key)).json["id"] for each in callers}
    assert len(ids) == 3


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\there", "\xe9"])
async def test_a_key_that_is_none_is_400_and_nothing_is_done(api: Api, key: str) -> None:
    body = make_lead_body()
    answer = await send(api, "POST", "/v1/leads", body, key)
    assert answer.status == 400
    assert answer.error["details"][0]["field"] == "Idempotency-Key"
    assert (await api.post("/v1/leads", body)).status == 201


async def test_reads_and_deletes_do_not_mind_the_header(api: Api) -> None:
    path = (await api.post("/v1/leads", make_lead_body())).headers["location"]
    headers = {"Idempotency-Key": ""}
    assert (await api.call("GET", path, headers=headers)).status == 200
    assert (await api.call("DELETE", path, headers=headers)).status == 204


async def test_a_request_that_never_arrived_whole_leaves_its_key_free(api: Api) -> None:
    key, body = str(uuid4()), make_lead_body()
    wrong = await send(api, "POST", "/v1/leads", body, key, Content_Type="text/plain")
    right = await send(api, "POST", "/v1/leads", body, key)
    assert (wrong.status, right.status, is_replay(right)) == (415, 201, False)


@pytest.mark.parametrize("keyed", ["one key", "a key each"])
async def test_hundreds_at_once_in_two_processes_make_one_lead(
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
    if keyed == "one key":  # the others come too early, or get what the first one got
        assert set(statuses) <= {(201, False), (201, True), (409, False)}
        assert len({answer.body for answer in answers if answer.status == 201}) == 1
        late = await send(second, "POST", "/v1/leads", body, key)
        assert (late.status, is_replay(late)) == (201, True)
    else:
        assert statuses[409, False] == 299
    assert len(await list_events(pool, made.pop())) == 1


async def test_hundreds_of_patches_at_once_change_once(api: Api, second: Api, pool: Pool) -> None:
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


async def test_two_keys_for_one_address_in_one_batch_each_get_their_own_answer(api: Api) -> None:
    body, key = make_lead_body(), str(uuid4())
    answers = await asyncio.gather(
        *(send(api, "POST", "/v1/leads", body, f"{key} {n}") for n in range(50))
    )
    again = [await send(api, "POST", "/v1/leads", body, f"{key} {n}") for n in range(50)]
    assert [answer.body for answer in again] == [answer.body for answer in answers]
    assert all(is_replay(answer) for answer in again)


async def test_a_key_is_made_once_and_its_secret_lies_sealed(
    api: Api, pool: Pool, settings: Settings
) -> None:
    key, body = str(uuid4()), {"name": "for a partner", "scope": "read"}
    first = await send(api, "POST", "/v1/api-keys", body, key)
    again = await send(api, "POST", "/v1/api-keys", body, key)
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert is_replay(again)
    rows = await pool.fetch(
        "SELECT t::text AS row, sealed FROM idempotent_answer t WHERE sealed IS NOT NULL"
    )
    assert rows
    assert all(first.json["key"] not in row["row"] for row in rows)
    keys = (await api.get("/v1/api-keys")).json["data"]
    assert [each["name"] for each in keys].count("for a partner") == 1
    assert make_box(settings).current_key_id == rows[0]["sealed"][:4]


async def test_a_webhook_its_secret_its_test_and_its_replay_are_done_once(
    api: Api, second: Api
) -> None:
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


async def test_a_refusal_inside_the_transaction_is_kept_and_nothing_else(api: Api) -> None:
    key = str(uuid4())
    first = await send(api, "POST", "/v1/webhooks/wh_nowhere/test", "", key)
    again = await send(api, "POST", "/v1/webhooks/wh_nowhere/test", "", key)
    assert (first.status, again.status, again.body) == (404, 404, first.body)
    assert is_replay(again)
