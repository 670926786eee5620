"""Who may call what, and who sees what: every route of the table, also those to come."""

import msgspec
import pytest

from service.app import API
from service.db import Pool
from service.docs.examples import EXAMPLES
from service.http.call import Operation
from tests.factories import SCOPES, Tenant
from tests.serving import Answer, Api

NEEDED = {"read": 0, "write": 1, "admin": 2}


every_operation = pytest.mark.parametrize("operation", API, ids=lambda operation: operation.route)
every_one_with_an_id = pytest.mark.parametrize(
    "operation", [op for op in API if "{id}" in op.path], ids=lambda operation: operation.route
)


@pytest.fixture(scope="module")
async def ids(api: Api) -> dict[str, str]:
    """By the first part of the path: the id of one thing of the tenant's, made as the docs say."""
    made = {}
    for operation in API:
        if operation.method == "POST" and "{id}" not in operation.path and operation.status == 201:
            answer = await api.post(f"/v1{operation.path}", EXAMPLES[operation.body])
            assert answer.status == 201, answer.body
            made[operation.path.split("/")[1]] = answer.json["id"]
    return made


async def send(api: Api, operation: Operation, ids: dict[str, str], prefix: str = "/v1") -> Answer:
    path = operation.path
    if "{id}" in path:
        path = path.replace("{id}", ids[path.split("/")[1]])
    body = None if operation.body is None else msgspec.json.encode(EXAMPLES[operation.body])
    return await api.call(operation.method, prefix + path, body)


@every_operation
@pytest.mark.usefixtures("nothing_written")
async def test_a_route_without_a_key_is_401_under_both_prefixes(
    api: Api, ids: dict[str, str], operation: Operation
) -> None:
    for prefix in ("/v1", "/api/v1"):
        answer = await send(api.with_key(None), operation, ids, prefix)
        assert (answer.status, answer.error["code"]) == (401, "unauthorized")


@every_operation
@pytest.mark.usefixtures("nothing_written")
async def test_a_key_of_too_small_a_scope_is_403_and_does_nothing(
    api: Api, ids: dict[str, str], operation: Operation
) -> None:
    assert operation.scope is not None
    for scope in SCOPES:
        if NEEDED[scope] < NEEDED[operation.scope]:
            answer = await send(api.as_(scope), operation, ids)
            assert (answer.status, answer.error["code"]) == (403, "forbidden")
            assert operation.scope in answer.error["message"]


def test_the_scopes_are_those_of_the_contract() -> None:
    for operation in API:
        if operation.path.startswith("/leads"):
            by_method = {"GET": "read", "POST": "write", "PATCH": "write", "DELETE": "admin"}
            assert operation.scope == by_method[operation.method]
        if operation.path.startswith(("/api-keys", "/webhooks")):
            assert operation.scope == "admin"


@every_one_with_an_id
@pytest.mark.usefixtures("nothing_written")
async def test_what_is_anothers_is_404_like_what_is_not_there(
    api: Api,
    ids: dict[str, str],
    other: Tenant,
    operation: Operation,
) -> None:
    strangers = [api.of(other), api.of(other).as_(live=False), api.as_(live=False)]
    nowhere = {name: f"{an_id[:-4]}0000" for name, an_id in ids.items()}
    for stranger in strangers:
        answer = await send(stranger, operation, ids)
        assert (answer.status, answer.error["code"]) == (404, "not_found")
        missing = await send(stranger, operation, nowhere)
        told = answer.error["message"].replace(*pick_ids(operation, ids, nowhere))
        assert (missing.status, missing.error["message"]) == (404, told)


def pick_ids(operation: Operation, *worlds: dict[str, str]) -> list[str]:
    return [world[operation.path.split("/")[1]] for world in worlds]


async def test_no_list_shows_what_is_anothers(api: Api, ids: dict[str, str], other: Tenant) -> None:
    strangers = [api.of(other), api.of(other).as_(live=False), api.as_(live=False)]
    lists = [op for op in API if op.method == "GET" and "{id}" not in op.path]
    assert lists
    for operation in lists:
        query = "?q=duarte" if operation.path.endswith("/search") else ""
        mine = await api.call("GET", f"/v1{operation.path}{query}")
        assert mine.status == 200, mine.body
        assert ids.get(operation.path.split("/")[1], "").encode() in mine.body
        for stranger in strangers:
            answer = await stranger.call("GET", f"/v1{operation.path}{query}")
            assert answer.status == 200
            assert not [an_id for an_id in ids.values() if an_id.encode() in answer.body]


async def test_an_email_address_may_be_in_each_tenant_and_mode_once(
    api: Api, other: Tenant, pool: Pool
) -> None:
    callers = [api, api.as_(live=False), api.of(other), api.of(other).as_(live=False)]
    email = "everywhere@example.com"
    made = [await caller.post("/v1/leads", {"email": email}) for caller in callers]
    assert [answer.status for answer in made] == [201] * 4
    again = [await caller.post("/v1/leads", {"email": email}) for caller in callers]
    assert [answer.error["existingLeadId"] for answer in again] == [a.json["id"] for a in made]
    count = await pool.fetchval("SELECT count(*) FROM lead WHERE email_key = $1", email)
    assert count == 4


async def test_a_patch_may_take_an_email_address_that_another_tenant_has(
    api: Api, other: Tenant
) -> None:
    await api.post("/v1/leads", {"email": "taken@example.com"})
    theirs = await api.of(other).post("/v1/leads", {"email": "free@example.com"})
    changed = await api.of(other).patch(
        f"/v1/leads/{theirs.json['id']}", {"email": "taken@example.com"}
    )
    assert changed.status == 200
