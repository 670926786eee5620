"""Concurrent replays and rotations of secrets through the API."""

import asyncio

import sql
from service.database.connect import Pool
from tests.harness.api_client import Api
from tests.service.webhooks.test_webhooks import make


async def test_one_of_several_concurrent_replays_runs_and_the_others_are_refused(
    api: Api, pool: Pool
) -> None:
    endpoint_id, elsewhere = await make(api), await make(api)
    path = f"/v1/webhooks/{endpoint_id}/replay"
    responses = await asyncio.gather(*(api.post(path, {"since": "2026-01-01"}) for _ in range(12)))
    (started,) = [response for response in responses if response.status == 202]
    refused = [response for response in responses if response.status != 202]
    assert {(response.status, response.error["code"]) for response in refused} == {
        (409, "conflict")
    }
    assert started.json["id"] in refused[0].error["message"]
    assert (await api.get(started.headers["location"])).json["state"] == "running"
    listed = (await api.get(f"/v1/webhooks/{endpoint_id}/replays")).json["data"]
    assert listed == [started.json]

    again = await api.post(path, {"since": "2026-02-01"})  # later, and with another range
    assert (again.status, again.error["code"]) == (409, "conflict")
    count = await pool.fetchval("SELECT count(*) FROM replay WHERE endpoint_id = $1", endpoint_id)
    assert count == 1
    other = await api.post(f"/v1/webhooks/{elsewhere}/replay", {"since": "2026-01-01"})
    assert other.status == 202  # a replay of another webhook does not matter

    await pool.execute("UPDATE replay SET state = 'done', finished_at = now()")
    second = await api.post(path, {"since": "2026-01-01"})
    assert second.status == 202
    statuses = [(await api.delete(second.headers["location"])).status for _ in range(2)]
    assert statuses == [204, 409]
    assert (await api.get(second.headers["location"])).json["state"] == "cancelled"


async def test_a_replay_ends_by_now_and_cannot_begin_later(api: Api) -> None:
    endpoint_id = await make(api)
    response = await api.post(
        f"/v1/webhooks/{endpoint_id}/replay", {"since": "2026-01-01", "until": "2999-01-01"}
    )
    assert response.status == 202
    assert response.json["until"] < "2999"
    future = await make(api)
    response = await api.post(f"/v1/webhooks/{future}/replay", {"since": "2998-01-01"})
    assert response.status == 422, response.body
    assert response.error["details"][0]["field"] == "since"


async def test_each_secret_signs_until_its_announced_expiry_after_many_rotations(
    api: Api, pool: Pool
) -> None:
    endpoint_id = await make(api)
    path = f"/v1/webhooks/{endpoint_id}/rotate-secret"
    responses = await asyncio.gather(*(api.post(path, {}) for _ in range(9)))
    assert {response.status for response in responses} == {200}
    announced = {response.json["previousExpiresAt"] for response in responses}
    (row,) = await pool.fetch(sql.endpoint_get_many_for_dispatch, [endpoint_id])
    assert len(row["secrets"]) == 10
    kept = await pool.fetch(
        "SELECT iso_ms(expires_at) AS at FROM endpoint_secret WHERE endpoint_id = $1", endpoint_id
    )
    assert {secret["at"] for secret in kept} == announced | {None}
    refused = await api.post(path, {})
    assert (refused.status, refused.error["code"]) == (409, "conflict")
    assert f"expires at {min(announced)}" in refused.error["message"]
    await pool.execute(
        "UPDATE endpoint_secret SET expires_at = now() WHERE endpoint_id = $1 AND id = ("
        "SELECT min(id) FROM endpoint_secret WHERE endpoint_id = $1)", endpoint_id,
    )  # fmt: skip
    assert (await api.post(path, {})).status == 200
