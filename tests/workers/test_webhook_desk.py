"""What an endpoint's owner does with it while the service runs: pause, rotate, resend, replay."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import standardwebhooks
from aiohttp import web

from service.db import Pool
from service.settings import Settings
from tests.cluster import reset_database
from tests.receiver import Received, run_receiver
from tests.serving import Answer
from tests.webhooks import SECRET, House, run_house, wait_until


@pytest.fixture(scope="module")
async def house(
    settings: Settings, pool: Pool, admin_conn: asyncpg.Connection
) -> AsyncIterator[House]:
    async with run_house(settings, pool) as house:
        yield house
    await reset_database(admin_conn)


async def patch(house: House, endpoint_id: str, **fields: Any) -> Answer:
    answer = await house.api.patch(f"/v1/webhooks/{endpoint_id}", fields)
    assert answer.status == 200, answer.body
    return answer


async def list_states(house: House, endpoint_id: str, **query: Any) -> list[tuple[str, str]]:
    """Lead and state of each delivery, oldest first."""
    page = (await house.api.get(f"/v1/webhooks/{endpoint_id}/deliveries", **query)).json
    return [(item["leadId"], item["state"]) for item in reversed(page["data"])]


async def wait_held(house: House, endpoint_id: str, count: int) -> None:
    async def look() -> bool:
        return len(await list_states(house, endpoint_id, state="held")) == count

    await wait_until(look)


@pytest.mark.parametrize("resume", [None, "replay", "skip", "time"])
async def test_what_happens_during_a_pause_is_held_and_its_owner_decides(
    house: House, resume: str | None
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        await patch(house, endpoint_id, status="paused")
        early = await house.add_lead(f"early-{resume}@example.com")
        await wait_held(house, endpoint_id, 1)
        between = datetime.now(UTC).isoformat()
        late = await house.add_lead(f"late-{resume}@example.com")
        await wait_held(house, endpoint_id, 2)
        assert receiver.received == []
        choice = {} if resume is None else {"resume": between if resume == "time" else resume}
        answer = await patch(house, endpoint_id, status="active", **choice)
        assert answer.json["status"] == "active"
        after = await house.add_lead(f"after-{resume}@example.com")
        wanted = {
            None: [early, late, after], "replay": [early, late, after], "skip": [after],
            "time": [late, after],
        }[resume]  # fmt: skip
        await receiver.wait_for(len(wanted))
        await house.wait_settled(endpoint_id, 3)
        assert sorted(r.event["data"]["lead"]["id"] for r in receiver.received) == sorted(wanted)
        states = dict(await list_states(house, endpoint_id))
        assert states == {
            lead: "delivered" if lead in wanted else "cancelled" for lead in (early, late, after)
        }


async def test_both_secrets_sign_for_a_day_after_a_rotation(house: House, pool: Pool) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        answer = await house.api.post(f"/v1/webhooks/{endpoint_id}/rotate-secret", {})
        assert answer.status == 200
        until = datetime.fromisoformat(answer.json["previousExpiresAt"])
        assert timedelta(hours=23.9) < until - datetime.now(UTC) <= timedelta(hours=24)
        new_secret = answer.json["secret"]
        await house.add_lead("both@example.com")
        (received,) = await receiver.wait_for(1)
        for secret in (SECRET, new_secret):
            standardwebhooks.Webhook(secret).verify(received.body, received.headers)
        await pool.execute(
            "UPDATE endpoint_secret SET expires_at = now() "
            "WHERE endpoint_id = $1 AND expires_at IS NOT NULL",
            endpoint_id,
        )

        async def only_new_signs() -> bool:
            await house.api.post(f"/v1/webhooks/{endpoint_id}/test", {})
            await receiver.wait_for(len(receiver.received) + 1)
            signature = receiver.received[-1].headers["webhook-signature"]
            return len(signature.split(" ")) == 1

        await wait_until(only_new_signs)
        last = receiver.received[-1]
        standardwebhooks.Webhook(new_secret).verify(last.body, last.headers)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(SECRET).verify(last.body, last.headers)


async def test_a_test_event_is_signed_and_says_that_it_is_one(house: House) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url, "lead.qualified", "lead.created")
        answer = await house.api.post(f"/v1/webhooks/{endpoint_id}/test", {})
        assert answer.status == 202
        (received,) = await receiver.wait_for(1)
        standardwebhooks.Webhook(SECRET).verify(received.body, received.headers)
        assert received.event["type"] == "lead.qualified"
        assert received.event["data"]["test"] is True
        await house.wait_settled(endpoint_id, 1)
        found = await house.api.get(
            f"/v1/webhooks/{endpoint_id}/deliveries/{answer.json['deliveryId']}"
        )
        assert (found.json["cause"], found.json["state"]) == ("test", "delivered")
        await patch(house, endpoint_id, status="paused")
        refused = await house.api.post(f"/v1/webhooks/{endpoint_id}/test", {})
        assert refused.status == 409


async def test_a_delivery_shows_each_attempt_with_its_times_and_the_answers_first_16_kib(
    house: House,
) -> None:
    async def answer(_: Received) -> web.Response:
        return web.Response(status=418, body="ü".encode() * 10_000)

    async with run_receiver(answer) as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        await house.add_lead("teapot@example.com")
        await receiver.wait_for(1)

        async def look() -> list[Any]:
            page = await house.api.get(f"/v1/webhooks/{endpoint_id}/deliveries", state="pending")
            return [item for item in page.json["data"] if item["lastStatus"]]

        (item,) = await wait_until(look)
        assert (item["attempts"], item["lastStatus"], item["lastError"]) == (1, 418, "status")
        found = (await house.api.get(f"/v1/webhooks/{endpoint_id}/deliveries/{item['id']}")).json
        (attempt,) = found["attemptLog"]
        assert (attempt["number"], attempt["status"], attempt["error"]) == (1, 418, "status")
        assert attempt["response"] == "ü" * 8192
        assert attempt["truncated"] is True
        assert attempt["totalMs"] >= attempt["waitMs"] > 0
        assert {key: found[key] for key in item} == item


async def test_a_finished_delivery_can_be_sent_again_and_a_waiting_one_at_once(
    house: House,
) -> None:
    statuses = [500, 200, 200]

    async def answer(_: Received) -> web.Response:
        return web.Response(status=statuses.pop(0))

    async with run_receiver(answer) as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        await house.add_lead("resend@example.com")

        async def look() -> Any:
            rows = await house.pending(endpoint_id)
            return rows and rows[0]["yields"] and rows[0]["leased_until"] is None and rows

        (waiting,) = await wait_until(look)
        path = f"/v1/webhooks/{endpoint_id}/deliveries/dlv_{waiting['id']}"
        hurried = await house.api.post(f"{path}/resend", {})
        assert (hurried.status, hurried.json["deliveryId"]) == (202, f"dlv_{waiting['id']}")
        await house.wait_settled(endpoint_id, 1)
        again = await house.api.post(f"{path}/resend", {})
        assert again.status == 202
        assert again.json["deliveryId"] != f"dlv_{waiting['id']}"
        finals = await house.wait_settled(endpoint_id, 2)
        assert [final["cause"] for final in finals] == ["event", "resend"]
        assert len({received.id for received in receiver.received}) == 1


async def test_a_replay_sends_a_time_range_again_in_order_and_tells_how_far_it_is(
    house: House,
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url, "lead.created", "lead.qualified")
        since = datetime.now(UTC)
        ids = [await house.add_lead(f"replay{n}@example.com") for n in range(5)]
        await house.api.patch(f"/v1/leads/{ids[0]}", {"status": "qualified"})
        await house.wait_settled(endpoint_id, 6)
        until = datetime.now(UTC)
        first = [received.id for received in receiver.received]
        answer = await house.api.post(
            f"/v1/webhooks/{endpoint_id}/replay",
            {"since": since.isoformat(), "until": until.isoformat()},
        )
        assert answer.status == 202

        async def done() -> Any:
            found = (await house.api.get(answer.headers["location"])).json
            return found["state"] == "done" and found

        found = await wait_until(done)
        assert (found["seen"], found["sent"]) == (6, 6)
        await house.wait_settled(endpoint_id, 12)
        second = [received.id for received in receiver.received[6:]]
        assert sorted(second) == sorted(first)
        of_first_lead = [r.event["type"] for r in receiver.received[6:]
                         if r.event["data"]["lead"]["id"] == ids[0]]  # fmt: skip
        assert of_first_lead == ["lead.created", "lead.qualified"]


async def test_a_replay_of_what_never_arrived_sends_only_that(house: House) -> None:
    refuse = True

    async def answer(received: Received) -> web.Response:
        bad = refuse and received.event["data"]["lead"]["email"].startswith("lost")
        return (
            web.Response(status=400, headers={"webhook-delivery": "abort-message"} if bad else {})
            if bad
            else web.Response(status=200)
        )

    async with run_receiver(answer) as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        lost = await house.add_lead("lost@example.com")
        await house.add_lead("kept@example.com")
        await house.wait_settled(endpoint_id, 2)
        assert (lost, "failed") in await list_states(house, endpoint_id)
        refuse = False
        body = {"since": "2026-01-01", "onlyUndelivered": True}
        answered = await house.api.post(f"/v1/webhooks/{endpoint_id}/replay", body)
        assert answered.status == 202
        await house.wait_settled(endpoint_id, 3)
        assert len(receiver.received) == 3
        assert receiver.received[2].event["data"]["lead"]["id"] == lost


async def test_a_thin_payload_names_the_lead_and_nothing_personal(house: House) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        answer = await patch(
            house, endpoint_id, payload="thin", headers={"X-Api-Key": "s3cret-value"},
            description="CRM", rateLimit=100, timeoutMs=2000, retry="fast",
        )  # fmt: skip
        shown = answer.json
        assert (shown["payload"], shown["rateLimit"], shown["timeoutMs"]) == ("thin", 100, 2000)
        assert (shown["headerNames"], shown["retry"]) == (["X-Api-Key"], "fast")
        assert b"s3cret" not in answer.body
        lead_id = await house.add_lead("thin@example.com", name="Personal Name")
        (received,) = await receiver.wait_for(1)
        assert received.headers["x-api-key"] == "s3cret-value"
        standardwebhooks.Webhook(SECRET).verify(received.body, received.headers)
        data = received.event["data"]
        assert (data["leadId"], data["version"]) == (lead_id, 1)
        assert set(data) == {"leadId", "version", "actor"}
        stored = await house.pool.fetchval(
            "SELECT headers FROM endpoint WHERE id = $1", endpoint_id
        )
        assert b"s3cret" not in stored


async def test_a_coalescing_endpoint_gets_the_newest_of_many_waiting_updates(house: House) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url, "lead.updated", "lead.created")
        await patch(house, endpoint_id, coalesce=True, status="paused")
        lead_id = await house.add_lead("coalesce@example.com")
        for n in range(5):
            await house.api.patch(f"/v1/leads/{lead_id}", {"name": f"n{n}"})

        async def look() -> bool:
            states = [state for _, state in await list_states(house, endpoint_id)]
            newest = await house.pool.fetchval(
                "SELECT max(version) FROM delivery WHERE endpoint_id = $1", endpoint_id
            )
            return newest is not None and newest >= 6 and states.count("held") == 2

        await wait_until(look)
        await patch(house, endpoint_id, status="active")
        first, second, *_ = await receiver.wait_for(2)
        assert [first.event["type"], second.event["type"]] == ["lead.created", "lead.updated"]
        assert second.event["data"]["lead"]["name"] == "n4"
