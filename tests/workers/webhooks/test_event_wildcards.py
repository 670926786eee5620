"""Endpoints that subscribe by wildcards get exactly the events that these include, each once."""

import random
from datetime import UTC, datetime

from service.events.event_types import TYPES, expand_patterns, list_patterns
from service.webhooks.reconciliation import reconcile_since
from tests.harness.delivery_harness import open_delivery_harness
from tests.harness.worker_harness import WorkerHarness
from workers.fanout import Fanout

URL = "http://127.0.0.1:9/"
FUTURE_TYPES = ["lead.merged", "leads.created", "call.ended"]


async def subscribe(harness: WorkerHarness, *patterns: str) -> str:
    opened = await open_delivery_harness(
        harness, URL, tenant_id=harness.principal.tenant_id, events=["lead.created"]
    )
    await harness.pool.execute(
        "UPDATE endpoint SET events = $2 WHERE id = $1", opened.id, list(patterns)
    )
    return opened.id


async def log(harness: WorkerHarness, event_type: str, about: str) -> None:
    """Appends an event, as the statement of a change does."""
    await harness.pool.execute(
        "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, "
        "data) SELECT lead_shard($2), $3, true, $2, count(*) + 1, 'evt_' || gen_random_uuid(), $1, "
        "'x', now_ms(), '{}' FROM outbox WHERE lead_id = $2",
        event_type, about, harness.principal.tenant_id,
    )  # fmt: skip


async def list_deliveries(harness: WorkerHarness, endpoint_id: str) -> list[tuple[str, str]]:
    """Type and subject of each delivery."""
    rows = await harness.pool.fetch(
        "SELECT type, lead_id FROM delivery WHERE endpoint_id = $1 ORDER BY id", endpoint_id
    )
    return [(row["type"], row["lead_id"]) for row in rows]


async def find_differences(harness: WorkerHarness) -> tuple[int, int]:
    """The deliveries that the log demands, and the number of endpoints where they differ."""
    async with harness.pool.acquire() as conn:
        found, _ = await reconcile_since(conn, datetime.min.replace(tzinfo=UTC))
    return found.expected, len(found.differences)


async def test_each_subscription_gets_what_its_patterns_include(harness: WorkerHarness) -> None:
    subscriptions = [
        ("*",), ("lead.*",), ("lead.created",), ("lead.*", "lead.created", "*"),
        ("conversation.*", "lead.deleted"), ("webhook.*",), ("intent.*",),
        ("lead.*", "webhook.failing"),
    ]  # fmt: skip
    endpoints = {await subscribe(harness, *patterns): patterns for patterns in subscriptions}
    events = [(each, "lead_1") for each in (*TYPES, *FUTURE_TYPES)]
    random.Random(0).shuffle(events)
    for event_type, about in events:
        await log(harness, event_type, about)
    await harness.drain(Fanout(harness.context))
    for endpoint_id, patterns in endpoints.items():
        expected = [event for event in events if set(patterns) & set(list_patterns(event[0]))]
        assert await list_deliveries(harness, endpoint_id) == expected, patterns
    wanted = sum([len(await list_deliveries(harness, endpoint_id)) for endpoint_id in endpoints])
    assert await find_differences(harness) == (wanted, 0)


async def test_a_wildcard_leaves_out_the_events_of_the_endpoint_itself(
    harness: WorkerHarness,
) -> None:
    by_wildcard = await subscribe(harness, "*", "webhook.*")
    by_type = await subscribe(harness, "webhook.failing", "*")
    for about in (by_wildcard, by_type):
        await log(harness, "webhook.failing", about)
        await log(harness, "webhook.expired", about)
    await harness.drain(Fanout(harness.context))
    assert await list_deliveries(harness, by_wildcard) == [
        ("webhook.failing", by_type), ("webhook.expired", by_type),
    ]  # fmt: skip
    assert sorted(await list_deliveries(harness, by_type)) == sorted([
        ("webhook.failing", by_wildcard), ("webhook.expired", by_wildcard),
        ("webhook.failing", by_type),
    ])  # fmt: skip
    assert await find_differences(harness) == (5, 0)


async def test_reconciliation_finds_a_difference_of_a_wildcard(harness: WorkerHarness) -> None:
    endpoint_id = await subscribe(harness, "lead.*")
    for event_type in ("lead.created", "lead.merged", "message.sent"):
        await log(harness, event_type, "lead_1")
    await harness.drain(Fanout(harness.context))
    await harness.pool.execute("DELETE FROM delivery WHERE type = 'lead.merged'")
    assert await find_differences(harness) == (2, 1)
    await harness.pool.execute(
        "UPDATE endpoint SET events = '{message.*}' WHERE id = $1", endpoint_id
    )
    await log(harness, "lead.updated", "lead_1")
    await harness.drain(Fanout(harness.context))
    assert await find_differences(harness) == (1, 1)  # one is missing, one is stray


def test_patterns_expand_to_the_types_of_the_catalogue() -> None:
    assert expand_patterns(["*"]) == list(TYPES)
    assert expand_patterns(["message.*", "lead.created", "lead.created"]) == [
        "lead.created", "message.received", "message.sent",
    ]  # fmt: skip
    assert expand_patterns(["lead", "*.created", "lead.", ""]) == []
