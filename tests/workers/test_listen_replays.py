"""`leadlog listen` brings back what happened before: from the log, or sent again by the service."""

import socket
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.db import Pool
from service.settings import Settings
from tests.cluster import reset_database
from tests.listening import read_heard, read_said, start, stop
from tests.receiver import run_receiver
from tests.webhooks import SECRET, House, run_house


@pytest.fixture(scope="module")
async def house(
    settings: Settings, pool: Pool, admin_conn: asyncpg.Connection
) -> AsyncIterator[House]:
    async with run_house(settings, pool) as house:
        yield house
    await reset_database(admin_conn)


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_a_new_listener_is_told_the_past_and_then_the_present(house: House) -> None:
    before = [await house.add_lead(f"before{n}@example.com") for n in range(3)]
    async with run_receiver() as receiver:
        process, _ = await start(
            "--url", house.api.url, "--key", str(house.api.key), "--event", "lead.created",
            "--forward", receiver.url, "--replay-since", "1h",
        )  # fmt: skip
        heard = [await read_heard(process) for _ in before]
        assert "Replayed 3 of 3 events" in (await read_said(process, "Replayed"))[-1]
        after = await house.add_lead("after@example.com")
        heard.append(await read_heard(process))
        received = await receiver.wait_for(4)
    assert [one["event"]["data"]["lead"]["id"] for one in heard] == [*before, after]
    assert all(one["verified"] and one["forwarded"] == 200 for one in heard)
    assert [one["path"] for one in heard] == ["(log)", "(log)", "(log)", "/"]
    assert [one.event["data"]["lead"]["id"] for one in received] == [*before, after]
    await stop(process)


async def test_what_is_older_than_since_is_passed_over(house: House) -> None:
    await house.add_lead("older@example.com")
    process, _ = await start(
        "--url", house.api.url, "--key", str(house.api.key), "--replay-since", "2999-01-01"
    )
    assert "Replayed 0 of" in (await read_said(process, "Replayed"))[-1]
    assert await stop(process) == []


async def test_an_existing_webhook_is_replayed_with_progress_and_one_delivery_by_its_id(
    house: House,
) -> None:
    port = find_port()
    endpoint_id = await house.add_webhook(f"http://127.0.0.1:{port}/hook")
    options = ("--secret", SECRET, "--port", str(port))
    process, _ = await start(*options)
    leads = [await house.add_lead(f"twice{n}@example.com") for n in range(3)]
    heard = [await read_heard(process) for _ in leads]
    finals = await house.wait_settled(endpoint_id, 3)
    await stop(process)

    service = ("--url", house.api.url, "--key", str(house.api.key), "--webhook", endpoint_id)
    again, _ = await start(*options, *service, "--replay-since", "1h")
    told = await read_said(again, "done.")
    assert "3 looked at, 3 on their way, done." in told[-1]
    replayed = [await read_heard(again) for _ in leads]
    assert sorted(one["event"]["id"] for one in replayed) == sorted(
        one["event"]["id"] for one in heard
    )
    assert all(one["verified"] for one in replayed)
    await house.wait_settled(endpoint_id, 6)
    await stop(again)

    once, _ = await start(*options, *service, "--replay", f"dlv_{finals[0]['id']}")
    await read_said(once, "on its way again")
    assert (await read_heard(once))["event"]["id"] == finals[0]["event_id"]
    await house.wait_settled(endpoint_id, 7)
    assert await stop(once) == []


async def test_a_replay_that_the_service_refuses_is_said_and_listening_goes_on(
    house: House,
) -> None:
    port = find_port()
    endpoint_id = await house.add_webhook(f"http://127.0.0.1:{port}/")
    process, _ = await start(
        "--secret", SECRET, "--port", str(port), "--url", house.api.url,
        "--key", str(house.api.key), "--webhook", endpoint_id, "--replay", "dlv_1",
    )  # fmt: skip
    assert "no such delivery" in (await read_said(process, "did not take"))[-1]
    await house.add_lead("still@example.com")
    assert (await read_heard(process))["verified"]
    await house.wait_settled(endpoint_id, 1)
    await stop(process)
