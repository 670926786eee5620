"""The way from a request to a signed POST at a receiver, with the whole service running."""

import asyncio

import asyncpg
import redis.asyncio
import standardwebhooks
import svix
from aiohttp import web

from service.database.connect import Pool
from tests.harness.running_service import SECRET, RunningService, wait_until
from tests.loopback.receiver import Received, run_receiver


async def test_a_new_lead_causes_a_request_that_two_libraries_verify(
    running: RunningService,
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(f"{receiver.url}/hook?a=1", "lead.created")
        lead_id = await running.add_lead("signed@example.com", name="Zoë 🦊")
        (received,) = await receiver.wait_for(1)

        assert received.path == "/hook?a=1"
        assert received.headers["content-type"] == "application/json"
        event = received.event
        found = standardwebhooks.Webhook(SECRET).verify(received.body, received.headers)
        assert found == event
        svix.Webhook(SECRET).verify(received.body, received.headers)
        assert list(event) == ["id", "type", "apiVersion", "createdAt", "data"]
        assert event["type"] == "lead.created"
        assert event["id"] == received.id
        assert event["data"]["lead"]["id"] == lead_id
        assert event["data"]["version"] == 1
        (final,) = await running.wait_finished(endpoint_id, 1)
        assert (final["outcome"], final["attempts"], final["last_status"]) == ("delivered", 1, 200)
        (attempt,) = await running.attempts(endpoint_id)
        assert (attempt["status"], attempt["error"], attempt["body"]) == (200, None, b"thanks")
        assert attempt["connect_ms"] is not None
        assert 0 < attempt["wait_ms"] <= attempt["total_ms"]


async def test_a_failed_delivery_is_retried_with_the_same_id_until_it_succeeds(
    running: RunningService,
) -> None:
    statuses = [500, 301, 200]

    async def answer(_: Received) -> web.Response:
        return web.Response(status=statuses.pop(0), headers={"Location": "http://127.0.0.1:1/"})

    async with run_receiver(answer) as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        await running.add_lead("again@example.com")
        for tried in (1, 2):
            await receiver.wait_for(tried)

            async def look(tried: int = tried) -> list[asyncpg.Record]:
                rows = await running.pending(endpoint_id)
                return [r for r in rows if r["yields"] and r["attempts"] == tried
                        and r["leased_until"] is None]  # fmt: skip

            (waiting,) = await wait_until(look)
            assert 1 < waiting["due_in_s"] < 40
            assert 71 * 3600 < waiting["left_s"] <= 72 * 3600 + 1  # now() differs by transaction
            await running.make_due_now(endpoint_id)
        first, second, third = await receiver.wait_for(3)
        assert first.id == second.id == third.id
        assert first.body == second.body == third.body
        assert [r.headers["webhook-attempt"] for r in (first, second, third)] == ["1", "2", "3"]
        await running.wait_finished(endpoint_id, 1)
        attempts = await running.attempts(endpoint_id)
        assert [(a["number"], a["status"], a["error"]) for a in attempts] == [
            (1, 500, "status"), (2, 301, "redirect"), (3, 200, None),
        ]  # fmt: skip


async def test_changes_of_a_lead_arrive_in_order_even_if_one_is_retried(
    running: RunningService,
) -> None:
    tried: dict[str, int] = {}

    async def answer(received: Received) -> web.Response:
        tried[received.id] = tried.get(received.id, 0) + 1
        refuse = received.event["data"]["version"] == 2 and tried[received.id] < 3
        return web.Response(status=503 if refuse else 200)

    async with run_receiver(answer) as receiver:
        endpoint_id = await running.add_webhook(
            receiver.url, "lead.created", "lead.updated", "lead.qualified"
        )
        lead_id = await running.add_lead("order@example.com")
        other_id = await running.add_lead("elsewhere@example.com")
        for n in range(5):
            await running.api.patch(f"/v1/leads/{lead_id}", {"name": f"n{n}"})
        await running.api.patch(f"/v1/leads/{lead_id}", {"status": "qualified"})

        async def look() -> bool:
            await running.make_due_now(endpoint_id)
            finals = [f for f in await running.finals(endpoint_id) if f["lead_id"] == lead_id]
            return len(finals) >= 8

        await wait_until(look)
        accepted: list[int] = []
        for received in receiver.received:
            data = received.event["data"]
            if data["lead"]["id"] == lead_id and data["version"] not in accepted[-1:]:
                accepted.append(data["version"])
        assert accepted == sorted(accepted)
        assert accepted[:8] == list(range(1, 9))
        assert tried[next(r.id for r in receiver.received if r.event["data"]["version"] == 2)] == 3
        assert other_id in {r.event["data"]["lead"]["id"] for r in receiver.received}


async def test_only_subscribed_endpoints_of_the_same_tenant_and_mode_receive_an_event(
    running: RunningService, pool: Pool
) -> None:
    async with run_receiver() as receiver:
        test_mode = RunningService(running.api.as_(live=False), pool)
        await test_mode.add_webhook(f"{receiver.url}/test-mode")
        await running.add_webhook(f"{receiver.url}/other-type", "lead.deleted")
        mine = await running.add_webhook(f"{receiver.url}/mine")
        lead_id = await running.add_lead("mine@example.com")
        await running.wait_finished(mine, 1)
        await test_mode.add_lead("mine@example.com")
        await receiver.wait_for(2)
        assert sorted(r.path for r in receiver.received) == ["/mine", "/test-mode"]
        told = {r.path: r.event["data"]["lead"]["id"] for r in receiver.received}
        assert told["/mine"] == lead_id != told["/test-mode"]


async def test_an_endpoint_receives_no_events_from_before_its_creation(
    running: RunningService,
) -> None:
    async with run_receiver() as receiver:
        await running.add_lead("before@example.com")
        await asyncio.sleep(0.002)  # times are kept in milliseconds
        endpoint_id = await running.add_webhook(receiver.url)
        after = [await running.add_lead(f"after{n}@example.com") for n in range(3)]
        await running.wait_finished(endpoint_id, 3)
        assert sorted(r.event["data"]["lead"]["id"] for r in receiver.received) == sorted(after)


async def test_a_wiped_redis_loses_no_delivery(
    running: RunningService, redis_client: redis.asyncio.Redis
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        made = []
        for n in range(20):
            made.append(await running.add_lead(f"flush{n}@example.com"))
            await redis_client.flushall()
        await running.wait_finished(endpoint_id, 20)
        assert {r.event["data"]["lead"]["id"] for r in receiver.received} == set(made)


async def test_410_disables_the_endpoint_and_its_deliveries_are_held(
    running: RunningService,
) -> None:
    async def gone(_: Received) -> web.Response:
        return web.Response(status=410)

    async with run_receiver(gone) as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        await running.add_lead("gone@example.com")

        async def look() -> bool:
            answer = await running.api.get(f"/v1/webhooks/{endpoint_id}")
            return bool(answer.json["status"] == "disabled")

        await wait_until(look)
        await running.add_lead("later@example.com")

        async def held() -> bool:
            return len(await running.pending(endpoint_id)) == 2

        await wait_until(held)
        assert len(receiver.received) == 1
        assert await running.finals(endpoint_id) == []


async def test_a_deleted_endpoint_receives_nothing_more_and_its_deliveries_are_cancelled(
    running: RunningService,
) -> None:
    async def refuse(_: Received) -> web.Response:
        return web.Response(status=500)

    async with run_receiver(refuse) as receiver:
        endpoint_id = await running.add_webhook(receiver.url)
        await running.add_lead("cancelled@example.com")
        await receiver.wait_for(1)
        assert (await running.api.delete(f"/v1/webhooks/{endpoint_id}")).status == 204
        (final,) = await running.wait_finished(endpoint_id, 1)
        assert final["outcome"] == "cancelled"
        assert await running.pending(endpoint_id) == []
