"""Resend and replay through the API while the service runs."""

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.harness.running_service import RunningService, wait_until
from tests.loopback.receiver import Received, run_receiver
from tests.workers.webhooks.test_endpoint_changes import list_states


async def test_resend_copies_a_finished_delivery_and_makes_a_waiting_one_due(
    running: RunningService,
) -> None:
    statuses = [500, 200, 200]

    async def answer(_: Received) -> web.Response:
        return web.Response(status=statuses.pop(0))

    async with run_receiver(answer) as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        await running.add_lead("resend@example.com")

        async def look() -> Any:
            rows = await running.pending(endpoint_id)
            return rows and rows[0]["yields"] and rows[0]["leased_until"] is None and rows

        (waiting,) = await wait_until(look)
        waiting_id = await running.show_delivery_id(waiting["id"])
        path = f"/v1/webhooks/{endpoint_id}/deliveries/{waiting_id}"
        hurried = await running.api.post(f"{path}/resend", {})
        assert (hurried.status, hurried.json["deliveryId"]) == (202, waiting_id)
        await running.wait_finished(endpoint_id, 1)
        again = await running.api.post(f"{path}/resend", {})
        assert again.status == 202
        assert again.json["deliveryId"] != waiting_id
        finals = await running.wait_finished(endpoint_id, 2)
        assert [final["cause"] for final in finals] == ["event", "resend"]
        assert len({received.id for received in receiver.received}) == 1


async def test_a_replay_sends_a_time_range_again_in_order_and_reports_its_progress(
    running: RunningService,
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url, "lead.created", "lead.qualified")
        since = datetime.now(UTC)
        ids = [await running.add_lead(f"replay{n}@example.com") for n in range(5)]
        await running.api.patch(f"/v1/leads/{ids[0]}", {"status": "qualified"})
        await running.wait_finished(endpoint_id, 6)
        until = datetime.now(UTC)
        first = [received.id for received in receiver.received]
        answer = await running.api.post(
            f"/v1/webhooks/{endpoint_id}/replay",
            {"since": since.isoformat(), "until": until.isoformat()},
        )
        assert answer.status == 202

        async def done() -> Any:
            found = (await running.api.get(answer.headers["location"])).json
            return found["state"] == "done" and found

        found = await wait_until(done)
        assert (found["seen"], found["sent"]) == (6, 6)
        await running.wait_finished(endpoint_id, 12)
        second = [received.id for received in receiver.received[6:]]
        assert sorted(second) == sorted(first)
        of_first_lead = [r.event["type"] for r in receiver.received[6:]
                         if r.event["data"]["lead"]["id"] == ids[0]]  # fmt: skip
        assert of_first_lead == ["lead.created", "lead.qualified"]


async def test_a_replay_of_undelivered_events_sends_only_those(running: RunningService) -> None:
    refuse = True

    async def answer(received: Received) -> web.Response:
        bad = refuse and received.event["data"]["lead"]["email"].startswith("lost")
        return (
            web.Response(status=400, headers={"webhook-delivery": "abort-message"} if bad else {})
            if bad
            else web.Response(status=200)
        )

    async with run_receiver(answer) as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        lost = await running.add_lead("lost@example.com")
        await running.add_lead("kept@example.com")
        await running.wait_finished(endpoint_id, 2)
        assert (lost, "failed") in await list_states(running, endpoint_id)
        refuse = False
        body = {"since": "2026-01-01", "onlyUndelivered": True}
        answered = await running.api.post(f"/v1/webhooks/{endpoint_id}/replay", body)
        assert answered.status == 202
        await running.wait_finished(endpoint_id, 3)
        assert len(receiver.received) == 3
        assert receiver.received[2].event["data"]["lead"]["id"] == lost
