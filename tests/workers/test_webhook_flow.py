"""From a request to a signed POST at a stranger's server, with the whole service running."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import redis.asyncio
import standardwebhooks
import svix
from aiohttp import web

from service.db import Pool
from service.settings import Settings
from tests.cluster import reset_database
from tests.receiver import Received, run_receiver
from tests.webhooks import SECRET, House, run_house, wait_until


@pytest.fixture(scope="module")
async def house(
    settings: Settings, pool: Pool, admin_conn: asyncpg.Connection
) -> AsyncIterator[House]:
    async with run_house(settings, pool) as house:
        yield house
    await reset_database(admin_conn)


async def test_a_new_lead_is_announced_in_a_request_that_two_libraries_verify(house: House) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(f"{receiver.url}/hook?a=1", "lead.created")
        lead_id = await house.add_lead("signed@example.com", name="Zoë 🦊")
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
        (final,) = await house.wait_settled(endpoint_id, 1)
        assert (final["outcome"], final["attempts"], final["last_status"]) == ("delivered", 1, 200)
        (attempt,) = await house.attempts(endpoint_id)
        assert (attempt["status"], attempt["error"], attempt["body"]) == (200, None, b"thanks")
        assert attempt["connect_ms"] is not None
        assert 0 < attempt["wait_ms"] <= attempt["total_ms"]


async def test_a_failed_delivery_is_tried_again_under_the_same_id_until_it_succeeds(
    house: House,
) -> None:
    answers = [500, 301, 200]

    async def answer(_: Received) -> web.Response:
        return web.Response(status=answers.pop(0), headers={"Location": "http://127.0.0.1:1/"})

    async with run_receiver(answer) as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        await house.add_lead("again@example.com")
        for tried in (1, 2):
            await receiver.wait_for(tried)

            async def look(tried: int = tried) -> list[asyncpg.Record]:
                rows = await house.pending(endpoint_id)
                return [r for r in rows if r["yields"] and r["attempts"] == tried
                        and r["leased_until"] is None]  # fmt: skip

            (waiting,) = await wait_until(look)
            assert 1 < waiting["due_in_s"] < 40
            assert 71 * 3600 < waiting["left_s"] <= 72 * 3600 + 1  # two clocks: one per transaction
            await house.hurry(endpoint_id)
        first, second, third = await receiver.wait_for(3)
        assert first.id == second.id == third.id
        assert first.body == second.body == third.body
        assert [r.headers["webhook-attempt"] for r in (first, second, third)] == ["1", "2", "3"]
        await house.wait_settled(endpoint_id, 1)
        attempts = await house.attempts(endpoint_id)
        assert [(a["number"], a["status"], a["error"]) for a in attempts] == [
            (1, 500, "status"), (2, 301, "redirect"), (3, 200, None),
        ]  # fmt: skip


async def test_changes_of_a_lead_arrive_in_their_order_even_if_one_has_to_be_tried_again(
    house: House,
) -> None:
    tried: dict[str, int] = {}

    async def answer(received: Received) -> web.Response:
        tried[received.id] = tried.get(received.id, 0) + 1
        refuse = received.event["data"]["version"] == 2 and tried[received.id] < 3
        return web.Response(status=503 if refuse else 200)

    async with run_receiver(answer) as receiver:
        endpoint_id = await house.add_webhook(
            receiver.url, "lead.created", "lead.updated", "lead.qualified"
        )
        lead_id = await house.add_lead("order@example.com")
        other_id = await house.add_lead("elsewhere@example.com")
        for n in range(5):
            await house.api.patch(f"/v1/leads/{lead_id}", {"name": f"n{n}"})
        await house.api.patch(f"/v1/leads/{lead_id}", {"status": "qualified"})

        async def look() -> bool:
            await house.hurry(endpoint_id)
            finals = [f for f in await house.finals(endpoint_id) if f["lead_id"] == lead_id]
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


async def test_only_endpoints_of_the_same_tenant_mode_and_type_hear_of_an_event(
    house: House, pool: Pool
) -> None:
    async with run_receiver() as receiver:
        test_mode = House(house.api.as_(live=False), pool)
        await test_mode.add_webhook(f"{receiver.url}/test-mode")
        await house.add_webhook(f"{receiver.url}/other-type", "lead.deleted")
        mine = await house.add_webhook(f"{receiver.url}/mine")
        lead_id = await house.add_lead("mine@example.com")
        await house.wait_settled(mine, 1)
        await test_mode.add_lead("mine@example.com")
        await receiver.wait_for(2)
        assert sorted(r.path for r in receiver.received) == ["/mine", "/test-mode"]
        told = {r.path: r.event["data"]["lead"]["id"] for r in receiver.received}
        assert told["/mine"] == lead_id != told["/test-mode"]


async def test_what_happened_before_an_endpoint_was_made_is_not_for_it(house: House) -> None:
    async with run_receiver() as receiver:
        await house.add_lead("before@example.com")
        await asyncio.sleep(0.002)  # times are kept in milliseconds
        endpoint_id = await house.add_webhook(receiver.url)
        after = [await house.add_lead(f"after{n}@example.com") for n in range(3)]
        await house.wait_settled(endpoint_id, 3)
        assert sorted(r.event["data"]["lead"]["id"] for r in receiver.received) == sorted(after)


async def test_a_wiped_redis_loses_no_delivery(
    house: House, redis_client: redis.asyncio.Redis
) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        made = []
        for n in range(20):
            made.append(await house.add_lead(f"flush{n}@example.com"))
            await redis_client.flushall()
        await house.wait_settled(endpoint_id, 20)
        assert {r.event["data"]["lead"]["id"] for r in receiver.received} == set(made)


async def test_410_disables_the_endpoint_and_keeps_what_is_for_it(house: House) -> None:
    async def gone(_: Received) -> web.Response:
        return web.Response(status=410)

    async with run_receiver(gone) as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        await house.add_lead("gone@example.com")

        async def look() -> bool:
            answer = await house.api.get(f"/v1/webhooks/{endpoint_id}")
            return bool(answer.json["status"] == "disabled")

        await wait_until(look)
        await house.add_lead("later@example.com")

        async def held() -> bool:
            return len(await house.pending(endpoint_id)) == 2

        await wait_until(held)
        assert len(receiver.received) == 1
        assert await house.finals(endpoint_id) == []


async def test_a_deleted_endpoint_gets_nothing_more_and_its_deliveries_are_cancelled(
    house: House,
) -> None:
    async def refuse(_: Received) -> web.Response:
        return web.Response(status=500)

    async with run_receiver(refuse) as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        await house.add_lead("cancelled@example.com")
        await receiver.wait_for(1)
        assert (await house.api.delete(f"/v1/webhooks/{endpoint_id}")).status == 204
        (final,) = await house.wait_settled(endpoint_id, 1)
        assert final["outcome"] == "cancelled"
        assert await house.pending(endpoint_id) == []
