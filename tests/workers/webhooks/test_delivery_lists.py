"""Lists of deliveries: pages, states, and attempts."""

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from service.database.connect import Pool
from tests.harness.running_service import RunningService, wait_until
from tests.loopback.receiver import Received, run_receiver


async def test_deliveries_are_listed_in_pages(running: RunningService) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        ids = [await running.add_lead(f"page{n}@example.com") for n in range(5)]
        await running.wait_finished(endpoint_id, 5)
        path = f"/v1/webhooks/{endpoint_id}/deliveries"
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await running.api.get(path, limit=2, **cursor)).json
            seen += [item["leadId"] for item in page["data"]]
            if not page["pagination"]["hasMore"]:
                break
            cursor = {"cursor": page["pagination"]["nextCursor"]}
        assert sorted(seen) == sorted(ids)
        assert (await running.api.get(path, state="failed")).json["data"] == []
        for query in ({"state": "lost"}, {"limit": 0}, {"limit": 101}, {"cursor": "%%"}, {"x": 1}):
            assert (await running.api.get(path, **query)).status == 400, query
        for bad in ("dlv_", "dlv_x", "dlv_99999999999999999999", "7", "dlv_0", "dlv_%C2%B2"):
            assert (await running.api.get(f"{path}/{bad}")).status == 404, bad


WAITING = (
    "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, "
    "due_at, created_at) SELECT tenant_id, live, id, 'evt_' || n, now(), 'lead.created', "
    "'lead_' || n, now() + interval '1 hour', now() FROM endpoint, generate_series(1, 3) AS n "
    "WHERE id = $1"
)
FINISHED = (
    "INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type, "
    "lead_id, cause, outcome, attempts, created_at, finished_at) SELECT "
    "nextval(pg_get_serial_sequence('delivery', 'id')), tenant_id, live, id, 'evt_' || n, now(), "
    "'lead.created', 'lead_' || n, 'event', $2, 150, now(), now() "
    "FROM endpoint, generate_series(1, 3) AS n WHERE id = $1"
)
OUTCOMES = ["delivered", "failed", "superseded", "cancelled"]


async def list_by(running: RunningService, endpoint_id: str, **query: Any) -> list[Any]:
    """Lists all deliveries that match, in pages of two."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        path = f"/v1/webhooks/{endpoint_id}/deliveries"
        page = (await running.api.get(path, limit=2, **query, **cursor)).json
        found += page["data"]
        if not page["pagination"]["hasMore"]:
            return found
        cursor = {"cursor": page["pagination"]["nextCursor"]}


async def test_each_state_lists_its_deliveries_and_no_others(
    running: RunningService, pool: Pool
) -> None:
    endpoint_id = await running.add_webhook("http://127.0.0.1:9/")
    await pool.execute(WAITING, endpoint_id)
    for outcome in OUTCOMES:
        await pool.execute(FINISHED, endpoint_id, outcome)
    ids: list[str] = []
    for state in [*OUTCOMES, "pending"]:
        found = await list_by(running, endpoint_id, state=state)
        assert [item["state"] for item in found] == [state] * 3
        assert [item["nextAttemptAt"] is None for item in found] == [state != "pending"] * 3
        ids += [item["id"] for item in found]
    assert await list_by(running, endpoint_id, state="held") == []
    everything = await list_by(running, endpoint_id)
    assert sorted(item["id"] for item in everything) == sorted(ids)

    await running.api.patch(f"/v1/webhooks/{endpoint_id}", {"status": "paused"})
    held = await list_by(running, endpoint_id, state="held")
    assert [(item["state"], item["nextAttemptAt"]) for item in held] == [("held", None)] * 3
    assert await list_by(running, endpoint_id, state="pending") == []
    path = f"/v1/webhooks/{endpoint_id}/deliveries/{held[0]['id']}"
    assert (await running.api.get(path)).json["nextAttemptAt"] is None


async def test_a_delivery_shows_its_newest_hundred_attempts(
    running: RunningService, pool: Pool
) -> None:
    endpoint_id = await running.add_webhook("http://127.0.0.1:9/")
    await pool.execute(FINISHED, endpoint_id, "failed")
    (item, *_) = await list_by(running, endpoint_id)
    number = await pool.fetchval(
        "SELECT max(id) FROM delivery_final WHERE endpoint_id = $1", endpoint_id
    )
    assert item["id"] == await running.show_delivery_id(number)
    await pool.execute(
        "INSERT INTO attempt (tenant_id, live, endpoint_id, delivery_id, number, at, total_ms, "
        "truncated) SELECT tenant_id, live, id, $2, n, now(), 1, false "
        "FROM endpoint, generate_series(1, 150) AS n WHERE id = $1",
        endpoint_id, number,
    )  # fmt: skip
    found = (await running.api.get(f"/v1/webhooks/{endpoint_id}/deliveries/{item['id']}")).json
    assert found["attempts"] == 150
    assert [each["number"] for each in found["attemptLog"]] == list(range(51, 151))


async def test_an_endpoint_paused_by_retry_after_shows_the_end_of_its_pause(
    running: RunningService,
) -> None:
    async def answer(_: Received) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async with run_receiver(answer) as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        path = f"/v1/webhooks/{endpoint_id}"
        assert (await running.api.get(path)).json["pausedUntil"] is None
        await running.add_lead("patience@example.com")

        async def look() -> Any:
            return (await running.api.get(path)).json["pausedUntil"]

        until = await wait_until(look)
        assert 3500 < (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds() <= 3600
        await running.add_lead("behind@example.com")

        async def look_behind() -> Any:
            return [i for i in await list_by(running, endpoint_id) if i["attempts"] == 0]

        (behind,) = await wait_until(look_behind)
        assert behind["nextAttemptAt"] == until
        one = (await running.api.get(f"{path}/deliveries/{behind['id']}")).json
        assert one["nextAttemptAt"] == until
        await running.api.patch(path, {"status": "paused"})
        assert (await running.api.get(path)).json["pausedUntil"] is None
        assert len(receiver.received) == 1
