"""The error examples of the API's description: the service sends exactly these."""

import json
import re
import socket
from typing import Any

import msgspec
from msgspec.structs import replace

import sql
from service.app import API, SERVICE
from service.database.connect import Pool
from service.docs.openapi.examples.call import WEBHOOK_ID, Call
from service.docs.openapi.examples.calls import CALLS
from service.docs.openapi.examples.refusals import (
    EXPIRED_KEY,
    IMPOSSIBLE,
    OTHER_EMAIL,
    find_malformed,
)
from service.docs.openapi.responses import find_problems
from service.errors import ErrorResponse
from service.http.operations import Operation
from service.settings import Settings
from tests.harness.api_client import Api, ApiResponse, serve_api
from tests.service.docs.test_examples import BY_NAME, DOCUMENT, Json, Story

OPERATIONS = {op.handler.__name__: op for op in (*API, *SERVICE)}
LOWER = {"write": "read", "admin": "write"}
IN_PROGRESS = ("create_webhook", "update_webhook", "create_api_key")
"""Operations whose 409 is only that of an Idempotency-Key in use; see test_idempotency.py."""


def find_example(name: str, status: int) -> Json:
    """The documented body of an error of an operation."""
    documented = BY_NAME[name][2]["responses"][str(status)]
    if "$ref" in documented:
        documented = DOCUMENT["components"]["responses"][documented["$ref"].rpartition("/")[2]]
    example: Json = documented["content"]["application/json"]["example"]
    return example


def list_cases(status: int) -> list[str]:
    """The operations with an error of this status."""
    return [
        name for name, op in OPERATIONS.items()
        if status in {problem.status for problem in find_problems(op)}
    ]  # fmt: skip


async def send(api: Api, name: str, call: Call | None = None, **headers: str) -> ApiResponse:
    """Send a request with the ids of the example, which nothing has unless a test makes it."""
    operation, example = OPERATIONS[name], CALLS[name]
    call = example if call is None else call
    path = operation.path
    for each, value in {**example.ids, **call.ids}.items():
        path = path.replace(f"{{{each}}}", value)
    body = None if call.body is None else json.dumps(call.body)
    prefix = "/v1" if operation.scope else ""
    names = {each.replace("_", "-"): value for each, value in headers.items()}
    return await api.call(
        operation.method, prefix + path, body, params=dict(call.query), headers=names
    )


def assert_shown(name: str, response: ApiResponse, status: int) -> None:
    assert (name, response.status) == (name, status), response.body
    assert response.json == find_example(name, status), name


def test_every_error_has_an_example_that_its_schema_allows() -> None:
    for name, operation in OPERATIONS.items():
        for problem in find_problems(operation):
            example = find_example(name, problem.status)
            decoded = msgspec.convert(example, ErrorResponse)
            assert decoded.error.code == problem.code
            assert (problem.status in {400, 422}) >= isinstance(decoded.error.details, list)
            assert problem.status != 400 or decoded.error.details
            fields = list_fields(operation)
            for fault in decoded.error.details or []:
                assert not fields or fault.field in fields | {"Idempotency-Key"}, (name, fault)


def list_fields(operation: Operation) -> set[str]:
    kinds = [kind for kind in (operation.body, operation.query) if kind is not None]
    found = {f.encode_name for kind in kinds for f in msgspec.structs.fields(kind)}
    return found | getattr(operation.body, "read_only", set())


async def test_a_malformed_request_is_refused_as_shown(fresh: Api) -> None:
    for name in list_cases(400):
        assert_shown(name, await send(fresh, name, find_malformed(OPERATIONS[name])), 400)


async def test_no_key_and_a_lower_scope_are_refused_as_shown(fresh: Api) -> None:
    for operation in API:
        name = operation.handler.__name__
        assert_shown(name, await send(fresh.with_key(None), name), 401)
        if operation.scope in LOWER:
            lower: Any = LOWER[operation.scope]
            assert_shown(name, await send(fresh.as_(lower), name), 403)


async def test_an_id_that_nothing_has_is_refused_as_shown(fresh: Api) -> None:
    webhook = (await send(fresh, "create_webhook")).json
    for name in list_cases(404):
        if name == "report_metrics":
            continue
        call = CALLS[name]
        if len(call.ids) > 1:  # the webhook exists, but not its delivery or replay
            call = replace(call, ids={**call.ids, "id": webhook["id"]})
        assert_shown(name, await send(fresh, name, call), 404)


async def test_a_large_body_and_another_media_type_are_refused_as_shown(fresh: Api) -> None:
    assert list_cases(413) == list_cases(415)
    for name in list_cases(413):
        large = Call(body={"a": "x" * 299_991})
        assert_shown(name, await send(fresh, name, large), 413)
        text = Call(body={})
        assert_shown(name, await send(fresh, name, text, Content_Type="text/plain"), 415)


async def test_an_impossible_request_is_refused_as_shown(fresh: Api) -> None:
    calls = {**IMPOSSIBLE, "create_api_key": EXPIRED_KEY}
    for name in list_cases(422):
        if name in calls:
            response = await send(fresh, name, calls[name])
        else:  # the key was used with another request before
            await send(fresh, name, Call(body={}), Idempotency_Key=name)
            operation, path = OPERATIONS[name], "/v1" + OPERATIONS[name].path
            other = path.replace("{id}", "other").replace("{deliveryId}", "dlv_1")
            key = {"Idempotency-Key": name}
            response = await fresh.call(operation.method, other, "{}", headers=key)
        assert_shown(name, response, 422)


async def test_an_old_version_is_refused_as_shown(fresh: Api) -> None:
    story = Story(fresh)
    await story.tell("capture_lead")
    for name in list_cases(412):
        call = CALLS[name]
        path = f"/v1/leads/{story.matcher.find(call.ids['id'])}"
        body = None if call.body is None else json.dumps(call.body)
        headers = {"If-Match": '"99"'}
        method = OPERATIONS[name].method
        assert_shown(name, await fresh.call(method, path, body, headers=headers), 412)


async def test_a_conflict_is_refused_as_shown(fresh: Api) -> None:
    story = Story(fresh)
    for name in ("create_webhook", "capture_lead", "start_webhook_replay", "create_api_key"):
        await story.tell(name)
    await story.tell("rotate_api_key")
    await refuse(story, "rotate_api_key")
    await refuse(story, "capture_lead")
    await refuse(story, "start_webhook_replay")
    await story.tell("cancel_webhook_replay")
    await refuse(story, "cancel_webhook_replay")
    other = await fresh.post("/v1/leads", {"email": OTHER_EMAIL})
    await refuse(story, "update_lead", {"email": OTHER_EMAIL})
    assert (
        story.matcher.find(find_example("update_lead", 409)["error"]["existingLeadId"])
        == (other.json["id"])
    )
    for _ in range(9):
        await story.tell("rotate_webhook_secret")
    await refuse(story, "rotate_webhook_secret")
    await fresh.patch(f"/v1/webhooks/{story.matcher.find(WEBHOOK_ID)}", {"status": "paused"})
    await refuse(story, "test_webhook")
    proven = {"capture_lead", "start_webhook_replay", "cancel_webhook_replay", "update_lead",
              "rotate_webhook_secret", "test_webhook", "resend_webhook_delivery",
              "rotate_api_key"}  # fmt: skip
    assert {*list_cases(409)} == {*IN_PROGRESS, *proven}


async def refuse(story: Story, name: str, body: Json | None = None) -> None:
    """Send the request of an operation, or another body, and compare the 409 with the example."""
    method, path, operation = BY_NAME[name]
    if body is None:
        response = await story.send(method, path, operation)
    else:
        path = path.replace("{id}", story.matcher.find(CALLS[name].ids["id"]))
        response = await story.api.patch(path, body)
    assert response.status == 409, (name, response.body)
    story.matcher.check(find_example(name, 409), response.json)


async def test_while_the_database_is_away_all_is_refused_as_shown(
    fresh: Api, settings: Settings
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"postgresql://leadlog@127.0.0.1:{closed.getsockname()[1]}/leadlog"
    async with serve_api(replace(settings, database_url=address)) as url:
        lost = Api(url, fresh.session, fresh.tenant, fresh.key)
        for name in list_cases(503):
            assert_shown(name, await send(lost, name), 503)
        shown = BY_NAME["report_ready"][2]["responses"]["503"]["content"]["application/json"]
        ready = await lost.get("/health/ready")
        assert (ready.status, ready.json) == (503, shown["example"])


async def test_metrics_are_refused_as_shown(fresh: Api, settings: Settings) -> None:
    guarded = replace(settings, metrics_token="t" * 32)
    async with serve_api(guarded) as url:
        assert_shown("report_metrics", await replace_url(fresh, url).get("/metrics"), 401)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with serve_api(replace(settings, metrics_port=port)) as url:
        assert_shown("report_metrics", await replace_url(fresh, url).get("/metrics"), 404)


def replace_url(fresh: Api, url: str) -> Api:
    return Api(url, fresh.session, fresh.tenant, None)


async def test_a_request_over_a_limit_is_refused_as_shown(fresh: Api, committed: Pool) -> None:
    await committed.execute(sql.plan_save, "shown", 600, None, None, ["GET"], ["/leads"], [1])
    await committed.execute(sql.tenant_set_plan, fresh.tenant.name, "shown")
    while (response := await fresh.get("/v1/leads")).status == 200:
        pass  # a plan reaches a process within a second
    example = find_example("list_leads", 429)["error"]
    assert (response.status, response.error["code"]) == (429, example["code"])
    own = (
        response.error["message"]
        .replace("1 requests", "600 requests")
        .replace(" to GET /leads", "")
    )
    assert re.sub(r"in \d+ s", "in 21 s", own) == example["message"]
