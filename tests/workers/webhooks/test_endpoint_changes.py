"""The owner changes an endpoint while the service runs: pause, resume, rotate, configure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import standardwebhooks
from aiohttp import web

from service.database.connect import Pool
from tests.harness.api_client import ApiResponse
from tests.harness.running_service import SECRET, RunningService, wait_until
from tests.loopback.receiver import Received, run_receiver


async def patch(running: RunningService, endpoint_id: str, **fields: Any) -> ApiResponse:
    answer = await running.api.patch(f"/v1/webhooks/{endpoint_id}", fields)
    assert answer.status == 200, answer.body
    return answer


async def list_states(
    running: RunningService, endpoint_id: str, **query: Any
) -> list[tuple[str, str]]:
    """Lists the lead and state of each delivery, oldest first."""
    page = (await running.api.get(f"/v1/webhooks/{endpoint_id}/deliveries", **query)).json
    return [(item["leadId"], item["state"]) for item in reversed(page["data"])]


async def wait_held(running: RunningService, endpoint_id: str, count: int) -> None:
    async def look() -> bool:
        return len(await list_states(running, endpoint_id, state="held")) == count

    await wait_until(look)


@pytest.mark.parametrize("resume", [None, "replay", "skip", "time"])
async def test_deliveries_during_a_pause_are_held_and_then_sent_as_the_owner_chooses(
    running: RunningService, resume: str | None
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        await patch(running, endpoint_id, status="paused")
        early = await running.add_lead(f"early-{resume}@example.com")
        await wait_held(running, endpoint_id, 1)
        between = datetime.now(UTC).isoformat()
        late = await running.add_lead(f"late-{resume}@example.com")
        await wait_held(running, endpoint_id, 2)
        assert receiver.received == []
        choice = {} if resume is None else {"resume": between if resume == "time" else resume}
        answer = await patch(running, endpoint_id, status="active", **choice)
        assert answer.json["status"] == "active"
        after = await running.add_lead(f"after-{resume}@example.com")
        wanted = {
            None: [early, late, after], "replay": [early, late, after], "skip": [after],
            "time": [late, after],
        }[resume]  # fmt: skip
        await receiver.wait_for(len(wanted))
        await running.wait_finished(endpoint_id, 3)
        assert sorted(r.event["data"]["lead"]["id"] for r in receiver.received) == sorted(wanted)
        states = dict(await list_states(running, endpoint_id))
        assert states == {
            lead: "delivered" if lead in wanted else "cancelled" for lead in (early, late, after)
        }


async def test_both_secrets_sign_for_a_day_after_a_rotation(
    running: RunningService, pool: Pool
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        answer = await running.api.post(f"/v1/webhooks/{endpoint_id}/rotate-secret", {})
        assert answer.status == 200
        until = datetime.fromisoformat(answer.json["previousExpiresAt"])
        assert timedelta(hours=23.9) < until - datetime.now(UTC) <= timedelta(hours=24)
        new_secret = answer.json["secret"]
        await running.add_lead("both@example.com")
        (received,) = await receiver.wait_for(1)
        for secret in (SECRET, new_secret):
            standardwebhooks.Webhook(secret).verify(received.body, received.headers)
        await pool.execute(
            "UPDATE endpoint_secret SET expires_at = now() "
            "WHERE endpoint_id = $1 AND expires_at IS NOT NULL",
            endpoint_id,
        )

        async def only_new_signs() -> bool:
            await running.api.post(f"/v1/webhooks/{endpoint_id}/test", {})
            await receiver.wait_for(len(receiver.received) + 1)
            signature = receiver.received[-1].headers["webhook-signature"]
            return len(signature.split(" ")) == 1

        await wait_until(only_new_signs)
        last = receiver.received[-1]
        standardwebhooks.Webhook(new_secret).verify(last.body, last.headers)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(SECRET).verify(last.body, last.headers)


async def test_a_test_event_is_signed_and_marked_as_a_test(running: RunningService) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url, "lead.qualified", "lead.created")
        answer = await running.api.post(f"/v1/webhooks/{endpoint_id}/test", {})
        assert answer.status == 202
        (received,) = await receiver.wait_for(1)
        standardwebhooks.Webhook(SECRET).verify(received.body, received.headers)
        assert received.event["type"] == "lead.qualified"
        assert received.event["data"]["test"] is True
        await running.wait_finished(endpoint_id, 1)
        found = await running.api.get(
            f"/v1/webhooks/{endpoint_id}/deliveries/{answer.json['deliveryId']}"
        )
        assert (found.json["cause"], found.json["state"]) == ("test", "delivered")
        await patch(running, endpoint_id, status="paused")
        refused = await running.api.post(f"/v1/webhooks/{endpoint_id}/test", {})
        assert refused.status == 409


async def test_a_delivery_shows_attempts_with_times_and_16_kib_of_the_response(
    running: RunningService,
) -> None:
    async def answer(_: Received) -> web.Response:
        return web.Response(status=418, body="ü".encode() * 10_000)

    async with run_receiver(answer) as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        await running.add_lead("teapot@example.com")
        await receiver.wait_for(1)

        async def look() -> list[Any]:
            page = await running.api.get(f"/v1/webhooks/{endpoint_id}/deliveries", state="pending")
            return [item for item in page.json["data"] if item["lastStatus"]]

        (item,) = await wait_until(look)
        assert (item["attempts"], item["lastStatus"], item["lastError"]) == (1, 418, "status")
        found = (await running.api.get(f"/v1/webhooks/{endpoint_id}/deliveries/{item['id']}")).json
        (attempt,) = found["attemptLog"]
        assert (attempt["number"], attempt["status"], attempt["error"]) == (1, 418, "status")
        assert attempt["response"] == "ü" * 8192
        assert attempt["truncated"] is True
        assert attempt["totalMs"] >= attempt["waitMs"] > 0
        assert {key: found[key] for key in item} == item


async def test_a_thin_payload_has_the_id_of_the_lead_and_no_personal_data(
    running: RunningService,
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        answer = await patch(
            running, endpoint_id, payload="thin", headers={"X-Api-Key": "s3cret-value"},
            description="CRM", rateLimit=100, timeoutMs=2000, retry="fast",
        )  # fmt: skip
        shown = answer.json
        assert (shown["payload"], shown["rateLimit"], shown["timeoutMs"]) == ("thin", 100, 2000)
        assert (shown["headerNames"], shown["retry"]) == (["X-Api-Key"], "fast")
        assert b"s3cret" not in answer.body
        lead_id = await running.add_lead("thin@example.com", name="Personal Name")
        (received,) = await receiver.wait_for(1)
        assert received.headers["x-api-key"] == "s3cret-value"
        standardwebhooks.Webhook(SECRET).verify(received.body, received.headers)
        data = received.event["data"]
        assert (data["leadId"], data["version"]) == (lead_id, 1)
        assert set(data) == {"leadId", "version", "actor"}
        stored = await running.pool.fetchval(
            "SELECT headers FROM endpoint WHERE id = $1", endpoint_id
        )
        assert b"s3cret" not in stored


async def test_a_coalescing_endpoint_receives_the_newest_of_many_waiting_updates(
    running: RunningService,
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url, "lead.updated", "lead.created")
        await patch(running, endpoint_id, coalesce=True, status="paused")
        lead_id = await running.add_lead("coalesce@example.com")
        for n in range(5):
            await running.api.patch(f"/v1/leads/{lead_id}", {"name": f"n{n}"})

        async def look() -> bool:
            states = [state for _, state in await list_states(running, endpoint_id)]
            newest = await running.pool.fetchval(
                "SELECT max(version) FROM delivery WHERE endpoint_id = $1", endpoint_id
            )
            return newest is not None and newest >= 6 and states.count("held") == 2

        await wait_until(look)
        await patch(running, endpoint_id, status="active")
        first, second, *_ = await receiver.wait_for(2)
        assert [first.event["type"], second.event["type"]] == ["lead.created", "lead.updated"]
        assert second.event["data"]["lead"]["name"] == "n4"
