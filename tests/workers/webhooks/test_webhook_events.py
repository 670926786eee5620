"""The log has an event when a webhook fails, is disabled, or loses expired deliveries."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness
from tests.harness.worker_harness import WorkerHarness
from tests.loopback.receiver import Received, Receiver
from workers.delivery.maintenance import EVENTS_PER_ROUND, check_failing_endpoints
from workers.dispatcher import Dispatcher
from workers.fanout import Fanout
from workers.reader import Reader
from workers.scorer import Scorer
from workers.timeline_writer import TimelineWriter


@pytest.fixture
async def delivery_harness(harness: WorkerHarness, receiver: Receiver) -> DeliveryHarness:
    return await open_delivery_harness(harness, f"{receiver.url}/hook?password=hunter2")


async def list_events(delivery_harness: DeliveryHarness) -> list[tuple[str, int, dict[str, Any]]]:
    """Lists type, version and data of each event about webhooks, in the order of the log."""
    rows = await delivery_harness.pool.fetch(
        "SELECT type, version, data, lead_id, tenant_id, live, shard = lead_shard(lead_id) AS fits "
        "FROM outbox WHERE type LIKE 'webhook.%' ORDER BY id"
    )
    for row in rows:
        assert (row["lead_id"], row["tenant_id"], row["live"]) == (
            delivery_harness.id,
            delivery_harness.tenant_id,
            True,
        )
        assert row["fits"]
    return [(row["type"], row["version"], json.loads(row["data"])) for row in rows]


async def fail_for(delivery_harness: DeliveryHarness, hours: float, failures: int = 20) -> None:
    """Simulates `hours` of failure and runs a check, as an hour after the last check."""
    await delivery_harness.pool.execute(
        "UPDATE endpoint_health SET failures = $2, failing_since = now() - $1 * interval '1 hour', "
        "warned_at = warned_at - interval '1 hour'", hours, failures,
    )  # fmt: skip
    await check_failing_endpoints(delivery_harness.pool)


async def test_five_days_of_failure_log_two_warnings_and_the_disabling(
    delivery_harness: DeliveryHarness,
) -> None:
    for hours in range(55, 125):
        await fail_for(delivery_harness, hours)
    events = await list_events(delivery_harness)
    assert [(event_type, version) for event_type, version, _ in events] == [
        ("webhook.failing", 1), ("webhook.failing", 2), ("webhook.disabled", 3),
    ]  # fmt: skip
    first, _, last = (data["webhook"] for _, _, data in events)
    assert (first["status"], first["failures"], last["status"]) == ("active", 20, "disabled")
    assert first["disablesAt"] > first["failingSince"]
    assert (last["disablesAt"], last["statusReason"]) == (
        None, "No delivery has succeeded for five days.",
    )  # fmt: skip
    assert [data["version"] for _, _, data in events] == [1, 2, 3]
    assert {data["actor"] for _, _, data in events} == {"dispatcher"}


@pytest.mark.parametrize("counted_at", [97, 130, 200])
async def test_an_endpoint_with_few_events_is_disabled_a_day_after_its_warning(
    delivery_harness: DeliveryHarness, counted_at: int
) -> None:
    for hours in range(90, counted_at):
        await fail_for(delivery_harness, hours, failures=19)
    assert await list_events(delivery_harness) == []
    ends = []
    for hours in range(counted_at, counted_at + 30):
        await fail_for(delivery_harness, hours)
        ends.append([event_type for event_type, _, _ in await list_events(delivery_harness)])
    assert ends[0] == ends[23] == ["webhook.failing"]
    assert ends[25] == ends[-1] == ["webhook.failing", "webhook.disabled"]
    notice = (await list_events(delivery_harness))[0][2]["webhook"]
    disables_in = datetime.fromisoformat(notice["disablesAt"]) - datetime.now(UTC)
    assert timedelta(hours=23) <= disables_in + timedelta(minutes=1)
    assert disables_in <= timedelta(hours=24)


async def test_a_success_in_between_restarts_the_count(
    delivery_harness: DeliveryHarness,
) -> None:
    await fail_for(delivery_harness, 97)
    await delivery_harness.add(("a", 1))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher)
    await dispatcher.maintenance.run()
    await fail_for(delivery_harness, 61)
    await close(dispatcher)
    assert [event_type for event_type, _, _ in await list_events(delivery_harness)] == [
        "webhook.failing"
    ] * 2


async def test_an_endpoint_that_is_checked_late_gets_one_warning(
    delivery_harness: DeliveryHarness,
) -> None:
    await fail_for(delivery_harness, 110)
    assert [event_type for event_type, _, _ in await list_events(delivery_harness)] == [
        "webhook.failing"
    ]


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (410, {}, "The receiver responded 410 Gone."),
        (200, {"webhook-delivery": "disable"}, "The receiver asked to be disabled."),
        (400, {"webhook-delivery": "disable"}, "The receiver asked to be disabled."),
    ],
)
async def test_a_response_that_disables_the_endpoint_logs_an_event_with_the_reason(
    delivery_harness: DeliveryHarness,
    receiver: Receiver,
    status: int,
    headers: dict[str, str],
    reason: str,
) -> None:
    async def answer(_: Received) -> web.Response:
        return web.Response(status=status, headers=headers)

    receiver.answer = answer
    await delivery_harness.add(*[(f"l{n}", 1) for n in range(4)])
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await dispatcher.once()
    await close(dispatcher)
    events = [
        (event_type, data["webhook"]["statusReason"])
        for event_type, _, data in await list_events(delivery_harness)
    ]
    assert events == [("webhook.disabled", reason)]


async def test_a_change_of_state_and_its_event_are_written_in_one_transaction(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the log is full'; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        with pytest.raises(Exception, match="the log is full"):
            await fail_for(delivery_harness, 121)
    finally:
        await delivery_harness.pool.execute("DROP TRIGGER refuse ON outbox; DROP FUNCTION refuse()")
    row = await delivery_harness.pool.fetchrow(
        "SELECT e.status, e.version, h.warned FROM endpoint e "
        "JOIN endpoint_health h ON h.endpoint_id = e.id"
    )
    assert row is not None
    assert tuple(row) == ("active", 0, 0)


async def test_concurrent_checks_log_each_event_once(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.pool.execute(
        "UPDATE endpoint_health SET failures = 20, failing_since = now() - interval '121 hours'"
    )
    for _ in range(2):
        await asyncio.gather(*(check_failing_endpoints(delivery_harness.pool) for _ in range(6)))
        await delivery_harness.pool.execute(
            "UPDATE endpoint_health SET warned_at = now() - interval '25 h'"
        )
    events = [
        (event_type, version) for event_type, version, _ in await list_events(delivery_harness)
    ]
    assert events == [("webhook.failing", 1), ("webhook.disabled", 2)]


async def test_failing_endpoints_beyond_one_batch_are_logged_in_the_next_batch(
    delivery_harness: DeliveryHarness, harness: WorkerHarness
) -> None:
    for _ in range(EVENTS_PER_ROUND):
        await open_delivery_harness(harness, "http://127.0.0.1:9/")
    counts = []
    for _ in range(3):
        await delivery_harness.pool.execute(
            "UPDATE endpoint_health SET failures = 20, failing_since = now() - interval '61 hours'"
        )
        await check_failing_endpoints(delivery_harness.pool)
        counts.append(
            await delivery_harness.pool.fetchval("SELECT count(DISTINCT event_id) FROM outbox")
        )
    assert counts == [EVENTS_PER_ROUND, EVENTS_PER_ROUND + 1, EVENTS_PER_ROUND + 1]


async def test_events_have_neither_url_nor_secret_nor_headers(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.pool.execute("UPDATE endpoint SET header_names = '{X-Password}'")
    await fail_for(delivery_harness, 121)
    text = json.dumps(await list_events(delivery_harness))
    for private in ("hunter2", "127.0.0.1", "whsec", "X-Password", "sealed"):
        assert private not in text


async def test_another_webhook_can_subscribe_and_no_timeline_has_the_event(
    delivery_harness: DeliveryHarness, harness: WorkerHarness, receiver: Receiver
) -> None:
    async with harness.pool.acquire() as conn:
        await conn.execute(
            "UPDATE endpoint SET events = '{webhook.disabled}' WHERE id = $1", delivery_harness.id
        )
        await conn.execute(  # another endpoint of the same tenant, which fails
            "INSERT INTO endpoint (tenant_id, live, id, url, events, events_since, created_at, "
            "updated_at) SELECT tenant_id, live, 'wh_broken', url, '{lead.created}', created_at, "
            "created_at, created_at FROM endpoint WHERE id = $1", delivery_harness.id,
        )  # fmt: skip
        await conn.execute(
            "INSERT INTO endpoint_health (tenant_id, live, endpoint_id, failures, failing_since, "
            "warned, warned_at) SELECT tenant_id, live, 'wh_broken', 20, "
            "now() - interval '121 hours', 80, now() - interval '25 hours' "
            "FROM endpoint WHERE id = $1", delivery_harness.id,
        )  # fmt: skip
    await check_failing_endpoints(delivery_harness.pool)
    readers: list[Reader] = [Fanout(harness.context)]
    readers += [Scorer(harness.context)]
    await harness.drain(*readers, TimelineWriter(harness.context))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    (received,) = await receiver.wait_for(1)
    assert received.event["type"] == "webhook.disabled"
    assert received.event["data"]["webhook"]["id"] == "wh_broken"
    assert await delivery_harness.pool.fetchval("SELECT count(*) FROM timeline") == 0
