"""The request bodies of actions on a webhook."""

import json
from typing import get_args

import pytest

from service.database.connect import Pool
from service.events.event_types import EventType
from tests.harness.api_client import Api
from tests.service.webhooks.test_webhooks import make


@pytest.mark.parametrize("action", ["test", "rotate-secret"])
async def test_an_action_without_a_body_accepts_an_empty_one_and_refuses_any_other(
    api: Api, action: str
) -> None:
    path = f"/v1/webhooks/{await make(api)}/{action}"
    for body in (b"garbage{", b"[]", b"null", b'{"a": 1}', b"{} {}", b"\xff"):
        response = await api.call("POST", path, body)
        assert (response.status, response.error["code"]) == (400, "invalid_request")
    for nothing in (None, b"", b"{}"):
        assert (await api.call("POST", path, nothing)).status in {200, 202}
    headers = {"Content-Type": "text/plain"}
    assert (await api.call("POST", path, b"{}", headers=headers)).status == 415
    assert (await api.call("POST", path, None, headers=headers)).status in {200, 202}


async def test_a_resend_refuses_a_body_with_content(api: Api) -> None:
    path = f"/v1/webhooks/{await make(api)}"
    started = (await api.call("POST", f"{path}/test")).json["deliveryId"]
    resend = f"{path}/deliveries/{started}/resend"
    for body, status in ((b"garbage{", 400), (b'{"a": 1}', 400), (b" ", 202), (None, 202)):
        assert (await api.call("POST", resend, body)).status == status


async def read_test_event(pool: Pool, endpoint_id: str) -> tuple[str, str]:
    """The type of the only waiting delivery, which is removed, and that of its body."""
    row = await pool.fetchrow(
        "WITH d AS (DELETE FROM delivery WHERE endpoint_id = $1 RETURNING *) SELECT d.type, e.body "
        "FROM d JOIN webhook_event e ON e.stored_at = d.stored_at AND e.event_id = d.event_id",
        endpoint_id,
    )
    return row["type"], json.loads(row["body"])["type"]


async def test_a_test_event_may_have_any_type(api: Api, pool: Pool) -> None:
    endpoint_id = await make(api, events=["lead.deleted"])
    path = f"/v1/webhooks/{endpoint_id}/test"
    for event_type in get_args(EventType):
        assert (await api.post(path, {"type": event_type})).status == 202
        assert await read_test_event(pool, endpoint_id) == (event_type, event_type)
    for nothing in ({}, {"type": None}):
        assert (await api.post(path, nothing)).status == 202
        assert await read_test_event(pool, endpoint_id) == ("lead.deleted", "lead.deleted")


@pytest.mark.parametrize(
    ("pattern", "sent"),
    [("*", "lead.created"), ("message.*", "message.received"), ("webhook.*", "webhook.failing")],
)
async def test_by_default_the_test_event_is_one_that_the_webhook_wants(
    api: Api, pool: Pool, pattern: str, sent: str
) -> None:
    endpoint_id = await make(api, events=[pattern, "lead.deleted"])
    assert (await api.call("POST", f"/v1/webhooks/{endpoint_id}/test")).status == 202
    assert await read_test_event(pool, endpoint_id) == (sent, sent)


@pytest.mark.parametrize("wrong", ["lead.sold", "lead.*", "*", "", 1])
async def test_a_test_event_of_no_known_type_is_400_and_lists_the_types(
    api: Api, wrong: object
) -> None:
    response = await api.post(f"/v1/webhooks/{await make(api)}/test", {"type": wrong})
    [fault] = response.error["details"]
    assert (response.status, fault["field"]) == (400, "type")
    if isinstance(wrong, str):
        assert all(event_type in fault["message"] for event_type in get_args(EventType))


async def test_nothing_of_a_deleted_webhook_can_be_used(api: Api, pool: Pool) -> None:
    endpoint_id = await make(api)
    path = f"/v1/webhooks/{endpoint_id}"
    waiting = (await api.call("POST", f"{path}/test")).json["deliveryId"]
    finished = (await api.call("POST", f"{path}/test")).json["deliveryId"]
    await pool.execute(FINISH_NEWEST, endpoint_id)
    replay = (await api.post(f"{path}/replay", {"since": "2026-01-01"})).json["id"]
    actions = [
        ("POST", "/test", None), ("POST", "/rotate-secret", None),
        ("POST", "/replay", '{"since": "2026-01-01"}'), ("GET", "/replays", None),
        ("GET", f"/replays/{replay}", None), ("DELETE", f"/replays/{replay}", None),
        ("GET", "/deliveries", None), ("PATCH", "", "{}"), ("GET", "", None),
        *(("GET", f"/deliveries/{each}", None) for each in (waiting, finished)),
        *(("POST", f"/deliveries/{each}/resend", None) for each in (waiting, finished)),
        ("DELETE", "", None),
    ]  # fmt: skip
    for method, action, body in actions:
        assert (await api.call(method, path + action, body)).status in {200, 202, 204, 409}
    before = await count_deliveries(pool, endpoint_id)
    for method, action, body in actions:
        response = await api.call(method, path + action, body)
        assert (action, response.status) == (action, 404)
        assert endpoint_id in response.error["message"] or "replay" in action
    assert await count_deliveries(pool, endpoint_id) == before


FINISH_NEWEST = """
WITH done AS (
    DELETE FROM delivery WHERE endpoint_id = $1
        AND id = (SELECT max(id) FROM delivery WHERE endpoint_id = $1) RETURNING *)
INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id,
    version, cause, outcome, attempts, created_at, finished_at)
SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause,
    'delivered', 1, created_at, now() FROM done
"""


async def count_deliveries(pool: Pool, endpoint_id: str) -> int:
    query = "SELECT count(*) FROM delivery WHERE endpoint_id = $1"
    count: int = await pool.fetchval(query, endpoint_id)
    return count


async def test_a_replay_may_begin_at_the_first_representable_time(api: Api) -> None:
    path = f"/v1/webhooks/{await make(api)}/replay"
    response = await api.post(path, {"since": "0001-01-01T00:00:00Z", "until": "9999-12-31"})
    assert response.status == 202, response.body
    assert response.json["since"].startswith("0001-01-01T00:00:00.0")
