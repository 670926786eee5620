"""Access to the endpoints of other tenants, and invalid requests, are refused."""

import json
from typing import Any

import pytest

from service.database.connect import Pool
from tests.harness.factories import make_tenant
from tests.harness.running_service import SECRET, RunningService, wait_until
from tests.loopback.receiver import run_receiver


async def test_no_route_shows_or_changes_a_webhook_of_another_tenant(
    running: RunningService, pool: Pool
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        await running.add_lead("mine-only@example.com")
        (final,) = await running.wait_finished(endpoint_id, 1)
        async with pool.acquire() as conn:
            stranger = running.api.of(await make_tenant(conn))
        base = f"/v1/webhooks/{endpoint_id}"
        delivery_id = await running.show_delivery_id(final["id"])
        assert (await running.api.get(f"{base}/deliveries/{delivery_id}")).status == 200
        calls = [
            ("GET", "", None), ("PATCH", "", {"status": "paused"}), ("DELETE", "", None),
            ("POST", "/rotate-secret", {}), ("POST", "/test", {}), ("GET", "/deliveries", None),
            ("GET", f"/deliveries/{delivery_id}", None),
            ("POST", f"/deliveries/{delivery_id}/resend", {}),
            ("POST", "/replay", {"since": "2026-01-01"}), ("GET", "/replays", None),
            ("GET", "/replays/rpl_1", None), ("DELETE", "/replays/rpl_1", None),
        ]  # fmt: skip
        for caller in (stranger, running.api.as_(live=False)):
            for method, path, body in calls:
                sent = None if body is None else json.dumps(body)
                answer = await caller.call(method, base + path, sent)
                assert (method, path, answer.status) == (method, path, 404)
        for scope in ("read", "write"):
            for method, path, body in calls:
                sent = None if body is None else json.dumps(body)
                answer = await running.api.as_(scope).call(method, base + path, sent)
                assert (method, path, answer.status) == (method, path, 403)
        assert (await running.api.get(base)).json["status"] == "active"
        assert len(receiver.received) == 1


async def test_a_stored_replay_is_run_after_its_transaction_commits(
    running: RunningService, pool: Pool
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute(  # a replayer does not see it before the commit
                "INSERT INTO replay (tenant_id, live, id, endpoint_id, since, until, "
                "only_undelivered, at_created_at, created_at) VALUES "
                "($1, true, 'rpl_busy', $2, now(), now(), false, now(), now())",
                running.api.tenant.id, endpoint_id,
            )  # fmt: skip
            waiting = await conn.fetchval("SELECT state FROM replay WHERE id = 'rpl_busy'")
            assert waiting == "running"

        async def look() -> bool:
            path = f"/v1/webhooks/{endpoint_id}/replays/rpl_busy"
            return bool((await running.api.get(path)).json["state"] == "done")

        await wait_until(look)


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"rateLimit": 0}, 400, "rateLimit"),
        ({"rateLimit": -1}, 400, "rateLimit"),
        ({"timeoutMs": 999}, 400, "timeoutMs"),
        ({"timeoutMs": 30_001}, 400, "timeoutMs"),
        ({"events": []}, 400, "events"),
        ({"events": None}, 400, "events"),
        ({"status": "disabled"}, 400, "status"),
        ({"payload": "fat"}, 400, "payload"),
        ({"retry": "never"}, 400, "retry"),
        ({"url": "http://169.254.169.254/"}, 422, "url"),
        ({"url": "https://x/#y"}, 422, "url"),
        ({"secret": SECRET}, 400, "secret"),
        ({"pausedUntil": None}, 400, "pausedUntil"),
        ({"headers": {"Host": "x"}}, 400, "headers.Host"),
        ({"headers": {"webhook-id": "x"}}, 400, "headers.webhook-id"),
        ({"headers": {"X-A": "a\r\nB: c"}}, 400, "headers.X-A"),
        ({"headers": {"X A": "a"}}, 400, "headers"),
        ({"headers": {"X-A": "ü"}}, 400, "headers.X-A"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, 400, "headers"),
        ({"headers": {f"X-{n}": "1" for n in range(21)}}, 400, "headers"),
        ({"status": "active", "resume": "never"}, 400, "resume"),
        ({"status": "active", "resume": "2999-01-01"}, 422, "resume"),
        ({"status": "active", "resume": "skip"}, 400, "resume"),  # already active
        ({"status": "paused", "resume": "replay"}, 400, "resume"),
        ({"resume": "2026-01-01", "description": "new"}, 400, "resume"),
        ({"colour": 1}, 400, "colour"),
    ],
)
async def test_a_bad_patch_is_refused_and_changes_nothing(
    running: RunningService, change: dict[str, Any], status: int, field: str
) -> None:
    endpoint_id = await running.add_webhook("http://127.0.0.1:9/")
    before = (await running.api.get(f"/v1/webhooks/{endpoint_id}")).body
    answer = await running.api.patch(f"/v1/webhooks/{endpoint_id}", change)
    assert (answer.status, answer.error["details"][0]["field"]) == (status, field)
    assert (await running.api.get(f"/v1/webhooks/{endpoint_id}")).body == before
    await running.api.delete(f"/v1/webhooks/{endpoint_id}")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"since": "yesterday"}, 400), ({"since": 5}, 400),
        ({"since": "2026-02-01", "until": "2026-01-01"}, 422),
        ({"since": "2026-02-01", "until": "2026-02-01"}, 422),
        ({"since": "2026-02-01", "onlyUndelivered": "yes"}, 400),
        ({"since": "2026-02-01", "x": 1}, 400),
    ],
)  # fmt: skip
async def test_a_bad_replay_is_refused(running: RunningService, body: Any, status: int) -> None:
    endpoint_id = await running.add_webhook("http://127.0.0.1:9/")
    answer = await running.api.post(f"/v1/webhooks/{endpoint_id}/replay", body)
    assert answer.status == status, answer.body
    assert await running.pool.fetchval("SELECT count(*) FROM replay WHERE endpoint_id = $1",
                                     endpoint_id) == 0  # fmt: skip
    await running.api.delete(f"/v1/webhooks/{endpoint_id}")


async def test_a_replay_of_an_empty_range_is_done_at_once(running: RunningService) -> None:
    endpoint_id = await running.add_webhook("http://127.0.0.1:9/")
    answer = await running.api.post(
        f"/v1/webhooks/{endpoint_id}/replay", {"since": "2020-01-01", "until": "2020-01-02"}
    )
    assert answer.status == 202

    async def done() -> Any:
        found = (await running.api.get(answer.headers["location"])).json
        return found["state"] == "done" and found

    assert (await wait_until(done))["sent"] == 0
