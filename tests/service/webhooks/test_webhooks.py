"""/v1/webhooks: what it takes, what it answers, and who may see it."""

import asyncio
import re
import socket
from typing import Any

import pytest
from msgspec.structs import replace

import sql
from service.db import Pool
from service.settings import Settings
from service.webhooks.endpoints import decode_secret
from tests.factories import Tenant
from tests.serving import Api, serve_api

URL = "https://8.8.8.8/hook"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def make(api: Api, **fields: Any) -> str:
    answer = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.created"], **fields})
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


async def test_a_new_webhook_shows_the_secret_we_made_this_once(api: Api) -> None:
    answer = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.created"]})
    assert answer.status == 201
    made = answer.json
    assert list(made) == ["id", "url", "events", "status", "createdAt", "secret"]
    assert re.fullmatch(r"wh_[0-9A-Z]{26}", made["id"])
    assert (made["url"], made["events"], made["status"]) == (URL, ["lead.created"], "active")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["createdAt"])
    assert len(decode_secret(made["secret"])) == 32
    assert answer.headers["location"] == f"/v1/webhooks/{made['id']}"
    one = await api.get(answer.headers["location"])
    assert "secret" not in one.json
    assert made["secret"] not in (await api.get("/v1/webhooks")).body.decode()


async def test_a_clients_own_secret_is_not_echoed_and_not_stored_in_plain(
    api: Api, pool: Pool
) -> None:
    body = {"url": URL, "events": ["lead.created", "lead.deleted"], "secret": SECRET}
    answer = await api.post("/v1/webhooks", body)
    assert list(answer.json) == ["id", "url", "events", "status", "createdAt"]
    sealed = await pool.fetchval(
        "SELECT sealed FROM endpoint_secret WHERE endpoint_id = $1", answer.json["id"]
    )
    assert decode_secret(SECRET) not in sealed
    assert SECRET.encode() not in sealed


async def test_secrets_are_in_no_log_line(
    settings: Settings, api: Api, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serve_api(replace(settings, log_level="debug")) as url:
        loud = Api(url, api.session, api.tenant, api.key)
        answer = await loud.post("/v1/webhooks", {"url": URL, "events": ["lead.created"]})
        await loud.post("/v1/webhooks", {"url": URL, "events": ["x"], "secret": SECRET})
    out, err = capfd.readouterr()
    assert answer.json["secret"].removeprefix("whsec_") not in out + err
    assert SECRET.removeprefix("whsec_") not in out + err


async def test_webhooks_are_listed_oldest_first_and_deleted_for_good(api: Api) -> None:
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
            answer = await stranger.call(method, f"/v1/webhooks/{endpoint_id}")
            assert (answer.status, answer.error["code"]) == (404, "not_found")
        assert endpoint_id not in (await stranger.get("/v1/webhooks")).body.decode()
    assert (await api.get(f"/v1/webhooks/{endpoint_id}")).status == 200


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_webhooks_are_for_admins(api: Api, scope: Any) -> None:
    endpoint_id = await make(api)
    caller = api.as_(scope)
    answers = [
        await caller.get("/v1/webhooks"),
        await caller.get(f"/v1/webhooks/{endpoint_id}"),
        await caller.delete(f"/v1/webhooks/{endpoint_id}"),
        await caller.post("/v1/webhooks", {"url": URL, "events": ["lead.created"]}),
    ]
    assert [answer.status for answer in answers] == [403] * 4


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
        ({"status": "active"}, 400, "status", "read_only"),
        ({"colour": "red"}, 400, "colour", "unknown_field"),
    ],
)
async def test_bad_input_is_refused_and_changes_nothing(
    api: Api, change: dict[str, Any], status: int, field: str, code: str
) -> None:
    before = (await api.get("/v1/webhooks")).body
    answer = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.created"], **change})
    assert answer.status == status, answer.body
    assert [(f["field"], f["code"]) for f in answer.error["details"]] == [(field, code)]
    assert (await api.get("/v1/webhooks")).body == before


async def test_all_faults_are_named_at_once(api: Api) -> None:
    answer = await api.post("/v1/webhooks", {"url": "x", "events": ["y"], "secret": "z", "w": 1})
    assert answer.status == 400
    fields = [fault["field"] for fault in answer.error["details"]]
    assert sorted(fields) == ["events.0", "secret", "url", "w"]


async def test_a_name_that_resolves_to_this_machine_is_refused_in_production(
    settings: Settings, api: Api
) -> None:
    async with serve_api(replace(settings, webhook_allow_private=False)) as url:
        strict = Api(url, api.session, api.tenant, api.key)
        for target in ("https://localhost/", "https://127.0.0.1/", "https://[::1]/"):
            answer = await strict.post("/v1/webhooks", {"url": target, "events": ["lead.created"]})
            assert answer.status == 422, target
            assert answer.error["details"][0]["code"] == "blocked_address"
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
    ask_system = socket.getaddrinfo

    def answer(host: str, *rest: Any, **options: Any) -> Any:
        if host != "hook.test":
            return ask_system(host, *rest, **options)
        if not addresses:  # which may change until an event is to be sent
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
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


async def test_without_secret_key_the_answer_says_what_is_missing(
    settings: Settings, api: Api
) -> None:
    async with serve_api(replace(settings, secret_key=None)) as url:
        keyless = Api(url, api.session, api.tenant, api.key)
        answer = await keyless.post("/v1/webhooks", {"url": URL, "events": ["lead.created"]})
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert "SECRET_KEY" in answer.error["message"]


async def test_the_same_event_named_twice_counts_once(api: Api) -> None:
    endpoint_id = await make(api, events=["lead.created", "lead.deleted", "lead.created"])
    found = (await api.get(f"/v1/webhooks/{endpoint_id}")).json
    assert found["events"] == ["lead.created", "lead.deleted"]


async def test_of_replays_started_at_once_one_runs_and_the_others_are_refused(
    api: Api, pool: Pool
) -> None:
    endpoint_id, elsewhere = await make(api), await make(api)
    path = f"/v1/webhooks/{endpoint_id}/replay"
    answers = await asyncio.gather(*(api.post(path, {"since": "2026-01-01"}) for _ in range(12)))
    (started,) = [answer for answer in answers if answer.status == 202]
    refused = [answer for answer in answers if answer.status != 202]
    assert {(answer.status, answer.error["code"]) for answer in refused} == {(409, "conflict")}
    assert started.json["id"] in refused[0].error["message"]
    assert (await api.get(started.headers["location"])).json["state"] == "running"
    listed = (await api.get(f"/v1/webhooks/{endpoint_id}/replays")).json["data"]
    assert listed == [started.json]

    again = await api.post(path, {"since": "2026-02-01"})  # later, and with another range
    assert (again.status, again.error["code"]) == (409, "conflict")
    count = await pool.fetchval("SELECT count(*) FROM replay WHERE endpoint_id = $1", endpoint_id)
    assert count == 1
    other = await api.post(f"/v1/webhooks/{elsewhere}/replay", {"since": "2026-01-01"})
    assert other.status == 202  # another webhook's is nobody's business

    await pool.execute("UPDATE replay SET state = 'done', finished_at = now()")
    second = await api.post(path, {"since": "2026-01-01"})
    assert second.status == 202
    statuses = [(await api.delete(second.headers["location"])).status for _ in range(2)]
    assert statuses == [204, 409]
    assert (await api.get(second.headers["location"])).json["state"] == "cancelled"


async def test_a_replay_ends_now_and_none_begins_later(api: Api) -> None:
    endpoint_id = await make(api)
    answer = await api.post(
        f"/v1/webhooks/{endpoint_id}/replay", {"since": "2026-01-01", "until": "2999-01-01"}
    )
    assert answer.status == 202
    assert answer.json["until"] < "2999"
    future = await make(api)
    answer = await api.post(f"/v1/webhooks/{future}/replay", {"since": "2998-01-01"})
    assert answer.status == 422, answer.body
    assert answer.error["details"][0]["field"] == "since"


async def test_each_secret_signs_as_long_as_was_promised_however_often_it_is_rotated(
    api: Api, pool: Pool
) -> None:
    endpoint_id = await make(api)
    path = f"/v1/webhooks/{endpoint_id}/rotate-secret"
    answers = await asyncio.gather(*(api.post(path, {}) for _ in range(9)))
    assert {answer.status for answer in answers} == {200}
    promised = {answer.json["previousExpiresAt"] for answer in answers}
    (row,) = await pool.fetch(sql.endpoint_get_many_for_dispatch, [endpoint_id])
    assert len(row["secrets"]) == 10
    kept = await pool.fetch(
        "SELECT iso_ms(expires_at) AS at FROM endpoint_secret WHERE endpoint_id = $1", endpoint_id
    )
    assert {secret["at"] for secret in kept} == promised | {None}
    refused = await api.post(path, {})
    assert (refused.status, refused.error["code"]) == (409, "conflict")
    assert f"expires at {min(promised)}" in refused.error["message"]
    await pool.execute(
        "UPDATE endpoint_secret SET expires_at = now() WHERE endpoint_id = $1 AND id = ("
        "SELECT min(id) FROM endpoint_secret WHERE endpoint_id = $1)", endpoint_id,
    )  # fmt: skip
    assert (await api.post(path, {})).status == 200
