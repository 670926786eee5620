"""Access by scope, tenant and mode, checked on every route of the API."""

import msgspec
import pytest

from service.app import API
from service.database.connect import Pool
from service.docs.openapi.examples.calls import find_call
from service.http.operations import Operation
from tests.harness.api_client import Api, ApiResponse
from tests.harness.factories import SCOPES, Tenant

NEEDED = {"read": 0, "write": 1, "admin": 2}


every_operation = pytest.mark.parametrize("operation", API, ids=lambda operation: operation.route)
every_one_with_an_id = pytest.mark.parametrize(
    "operation", [op for op in API if "{id}" in op.path], ids=lambda operation: operation.route
)


@pytest.fixture(scope="module")
async def ids(api: Api) -> dict[str, str]:
    """The id of one object for each resource (first part of a path), made from its example."""
    made = {}
    for operation in API:
        if operation.method == "POST" and "{id}" not in operation.path and operation.status == 201:
            response = await api.post(f"/v1{operation.path}", find_call(operation).body)
            assert response.status == 201, response.body
            made[operation.path.split("/")[1]] = response.json["id"]
    return made


async def send(
    api: Api, operation: Operation, ids: dict[str, str], prefix: str = "/v1"
) -> ApiResponse:
    path = operation.path
    if "{id}" in path:
        path = path.replace("{id}", ids[path.split("/")[1]])
    body = None if operation.body is None else msgspec.json.encode(find_call(operation).body)
    return await api.call(operation.method, prefix + path, body)


@every_operation
@pytest.mark.usefixtures("nothing_written")
async def test_a_request_without_a_key_is_401_under_both_prefixes(
    api: Api, ids: dict[str, str], operation: Operation
) -> None:
    for prefix in ("/v1", "/api/v1"):
        response = await send(api.with_key(None), operation, ids, prefix)
        assert (response.status, response.error["code"]) == (401, "unauthorized")


@every_operation
@pytest.mark.usefixtures("nothing_written")
async def test_a_key_with_an_insufficient_scope_is_403_and_changes_nothing(
    api: Api, ids: dict[str, str], operation: Operation
) -> None:
    assert operation.scope is not None
    for scope in SCOPES:
        if NEEDED[scope] < NEEDED[operation.scope]:
            response = await send(api.as_(scope), operation, ids)
            assert (response.status, response.error["code"]) == (403, "forbidden")
            assert operation.scope in response.error["message"]


def test_scopes_match_the_contract() -> None:
    for operation in API:
        if operation.path.startswith("/leads"):
            by_method = {"GET": "read", "POST": "write", "PATCH": "write", "DELETE": "admin"}
            assert operation.scope == by_method[operation.method]
        if operation.path.startswith(("/api-keys", "/webhooks")):
            assert operation.scope == "admin"


@every_one_with_an_id
@pytest.mark.usefixtures("nothing_written")
async def test_an_id_of_another_tenant_is_404_like_an_unknown_id(
    api: Api,
    ids: dict[str, str],
    other: Tenant,
    operation: Operation,
) -> None:
    strangers = [api.of(other), api.of(other).as_(live=False), api.as_(live=False)]
    nowhere = {name: f"{an_id[:-4]}0000" for name, an_id in ids.items()}
    for stranger in strangers:
        response = await send(stranger, operation, ids)
        assert (response.status, response.error["code"]) == (404, "not_found")
        missing = await send(stranger, operation, nowhere)
        told = response.error["message"].replace(*pick_ids(operation, ids, nowhere))
        assert (missing.status, missing.error["message"]) == (404, told)


def pick_ids(operation: Operation, *worlds: dict[str, str]) -> list[str]:
    return [world[operation.path.split("/")[1]] for world in worlds]


async def test_no_list_shows_rows_of_another_tenant(
    api: Api, ids: dict[str, str], other: Tenant
) -> None:
    strangers = [api.of(other), api.of(other).as_(live=False), api.as_(live=False)]
    lists = [op for op in API if op.method == "GET" and "{id}" not in op.path]
    assert lists
    for operation in lists:
        query = "?q=duarte" if operation.path.endswith("/search") else ""
        mine = await api.call("GET", f"/v1{operation.path}{query}")
        assert mine.status == 200, mine.body
        assert ids.get(operation.path.split("/")[1], "").encode() in mine.body
        for stranger in strangers:
            response = await stranger.call("GET", f"/v1{operation.path}{query}")
            assert response.status == 200
            assert not [an_id for an_id in ids.values() if an_id.encode() in response.body]


async def test_an_email_address_is_accepted_once_per_tenant_and_mode(
    api: Api, other: Tenant, pool: Pool
) -> None:
    callers = [api, api.as_(live=False), api.of(other), api.of(other).as_(live=False)]
    email = "everywhere@example.com"
    made = [await caller.post("/v1/leads", {"email": email}) for caller in callers]
    assert [response.status for response in made] == [201] * 4
    again = [await caller.post("/v1/leads", {"email": email}) for caller in callers]
    assert [response.error["existingLeadId"] for response in again] == [a.json["id"] for a in made]
    count = await pool.fetchval("SELECT count(*) FROM lead WHERE email_key = $1", email)
    assert count == 4


async def test_a_patch_may_set_an_email_address_that_another_tenant_uses(
    api: Api, other: Tenant
) -> None:
    await api.post("/v1/leads", {"email": "taken@example.com"})
    theirs = await api.of(other).post("/v1/leads", {"email": "free@example.com"})
    changed = await api.of(other).patch(
        f"/v1/leads/{theirs.json['id']}", {"email": "taken@example.com"}
    )
    assert changed.status == 200
