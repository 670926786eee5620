"""What befalls a webhook is told in the log: that it fails, that it was disabled, what expired."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from tests.desk import Desk, close, open_desk
from tests.receiver import Received, Receiver
from tests.workbench import Workbench
from workers.delivery.tidying import EVENTS_AT_ONCE, judge_failing
from workers.dispatcher import Dispatcher
from workers.fanout import Fanout
from workers.historian import Historian
from workers.reader import Reader
from workers.scorer import Scorer


@pytest.fixture
async def desk(bench: Workbench, receiver: Receiver) -> Desk:
    return await open_desk(bench, f"{receiver.url}/hook?password=hunter2")


async def list_events(desk: Desk) -> list[tuple[str, int, dict[str, Any]]]:
    """Type, version and data of each event about webhooks, in the log's order."""
    rows = await desk.pool.fetch(
        "SELECT type, version, data, lead_id, tenant_id, live, shard = lead_shard(lead_id) AS fits "
        "FROM outbox WHERE type LIKE 'webhook.%' ORDER BY id"
    )
    for row in rows:
        assert (row["lead_id"], row["tenant_id"], row["live"]) == (desk.id, desk.tenant_id, True)
        assert row["fits"]
    return [(row["type"], row["version"], json.loads(row["data"])) for row in rows]


async def fail_for(desk: Desk, hours: float, failures: int = 20) -> None:
    """As if nothing had succeeded for so long, and an hour had gone by since it was last judged."""
    await desk.pool.execute(
        "UPDATE endpoint_health SET failures = $2, failing_since = now() - $1 * interval '1 hour', "
        "warned_at = warned_at - interval '1 hour'", hours, failures,
    )  # fmt: skip
    await judge_failing(desk.pool)


async def test_five_days_of_failure_are_announced_twice_before_and_once_after(desk: Desk) -> None:
    for hours in range(55, 125):
        await fail_for(desk, hours)
    told = await list_events(desk)
    assert [(kind, version) for kind, version, _ in told] == [
        ("webhook.failing", 1), ("webhook.failing", 2), ("webhook.disabled", 3),
    ]  # fmt: skip
    first, _, last = (data["webhook"] for _, _, data in told)
    assert (first["status"], first["failures"], last["status"]) == ("active", 20, "disabled")
    assert first["disablesAt"] > first["failingSince"]
    assert (last["disablesAt"], last["statusReason"]) == (
        None, "No delivery has succeeded for five days.",
    )  # fmt: skip
    assert [data["version"] for _, _, data in told] == [1, 2, 3]
    assert {data["actor"] for _, _, data in told} == {"dispatcher"}


@pytest.mark.parametrize("counted_at", [97, 130, 200])
async def test_one_with_few_events_is_disabled_a_day_after_the_notice_and_no_sooner(
    desk: Desk, counted_at: int
) -> None:
    for hours in range(90, counted_at):
        await fail_for(desk, hours, failures=19)
    assert await list_events(desk) == []
    ends = []
    for hours in range(counted_at, counted_at + 30):
        await fail_for(desk, hours)
        ends.append([kind for kind, _, _ in await list_events(desk)])
    assert ends[0] == ends[23] == ["webhook.failing"]
    assert ends[25] == ends[-1] == ["webhook.failing", "webhook.disabled"]
    notice = (await list_events(desk))[0][2]["webhook"]
    told = datetime.fromisoformat(notice["disablesAt"]) - datetime.now(UTC)
    assert timedelta(hours=23) <= told + timedelta(minutes=1)
    assert told <= timedelta(hours=24)


async def test_a_success_in_between_begins_the_count_anew(desk: Desk) -> None:
    await fail_for(desk, 97)
    await desk.add(("a", 1))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.drain(dispatcher)
    await dispatcher.tidy()
    await fail_for(desk, 61)
    await close(dispatcher)
    assert [kind for kind, _, _ in await list_events(desk)] == ["webhook.failing"] * 2


async def test_one_that_was_late_to_be_judged_is_warned_of_once(desk: Desk) -> None:
    await fail_for(desk, 110)
    assert [kind for kind, _, _ in await list_events(desk)] == ["webhook.failing"]


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [(410, {}, "it answered 410"), (200, {"webhook-delivery": "disable"}, "it asked for that"),
     (400, {"webhook-delivery": "disable"}, "it asked for that")],
)  # fmt: skip
async def test_an_endpoint_that_ends_it_by_its_answer_is_announced_with_the_change(
    desk: Desk, receiver: Receiver, status: int, headers: dict[str, str], reason: str
) -> None:
    async def answer(_: Received) -> web.Response:
        return web.Response(status=status, headers=headers)

    receiver.answer = answer
    await desk.add(*[(f"l{n}", 1) for n in range(4)])
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await dispatcher.once()
    await close(dispatcher)
    told = [(kind, data["webhook"]["statusReason"]) for kind, _, data in await list_events(desk)]
    assert told == [("webhook.disabled", reason)]


async def test_the_state_and_its_event_come_together_or_not_at_all(desk: Desk) -> None:
    await desk.pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the log is full'; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        with pytest.raises(Exception, match="the log is full"):
            await fail_for(desk, 121)
    finally:
        await desk.pool.execute("DROP TRIGGER refuse ON outbox; DROP FUNCTION refuse()")
    row = await desk.pool.fetchrow(
        "SELECT e.status, e.version, h.warned FROM endpoint e "
        "JOIN endpoint_health h ON h.endpoint_id = e.id"
    )
    assert row is not None
    assert tuple(row) == ("active", 0, 0)


async def test_two_dispatchers_that_judge_at_once_tell_it_once(desk: Desk) -> None:
    await desk.pool.execute(
        "UPDATE endpoint_health SET failures = 20, failing_since = now() - interval '121 hours'"
    )
    for _ in range(2):
        await asyncio.gather(*(judge_failing(desk.pool) for _ in range(6)))
        await desk.pool.execute("UPDATE endpoint_health SET warned_at = now() - interval '25 h'")
    told = [(kind, version) for kind, version, _ in await list_events(desk)]
    assert told == [("webhook.failing", 1), ("webhook.disabled", 2)]


async def test_more_than_fit_in_one_round_are_told_in_the_next(
    desk: Desk, bench: Workbench
) -> None:
    for _ in range(EVENTS_AT_ONCE):
        await open_desk(bench, "http://127.0.0.1:9/")
    counts = []
    for _ in range(3):
        await desk.pool.execute(
            "UPDATE endpoint_health SET failures = 20, failing_since = now() - interval '61 hours'"
        )
        await judge_failing(desk.pool)
        counts.append(await desk.pool.fetchval("SELECT count(DISTINCT event_id) FROM outbox"))
    assert counts == [EVENTS_AT_ONCE, EVENTS_AT_ONCE + 1, EVENTS_AT_ONCE + 1]


async def test_neither_address_nor_secret_nor_headers_are_told(desk: Desk) -> None:
    await desk.pool.execute("UPDATE endpoint SET header_names = '{X-Password}'")
    await fail_for(desk, 121)
    text = json.dumps(await list_events(desk))
    for private in ("hunter2", "127.0.0.1", "whsec", "X-Password", "sealed"):
        assert private not in text


async def test_another_webhook_may_subscribe_and_no_lead_hears_of_it(
    desk: Desk, bench: Workbench, receiver: Receiver
) -> None:
    async with bench.pool.acquire() as conn:
        await conn.execute(
            "UPDATE endpoint SET events = '{webhook.disabled}' WHERE id = $1", desk.id
        )
        await conn.execute(  # the watcher watches another one, of its own tenant
            "INSERT INTO endpoint (tenant_id, live, id, url, events, events_since, created_at, "
            "updated_at) SELECT tenant_id, live, 'wh_broken', url, '{lead.created}', created_at, "
            "created_at, created_at FROM endpoint WHERE id = $1", desk.id,
        )  # fmt: skip
        await conn.execute(
            "INSERT INTO endpoint_health (tenant_id, live, endpoint_id, failures, failing_since, "
            "warned, warned_at) SELECT tenant_id, live, 'wh_broken', 20, "
            "now() - interval '121 hours', 80, now() - interval '25 hours' "
            "FROM endpoint WHERE id = $1", desk.id,
        )  # fmt: skip
    await judge_failing(desk.pool)
    readers: list[Reader] = [Fanout(bench.shop, f"fanout/{n}") for n in range(2)]
    readers += [Scorer(bench.shop, f"scorer/{n}") for n in range(2)]
    await bench.drain(*readers, Historian(bench.shop, "historian/0"))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.drain(dispatcher)
    await close(dispatcher)
    (received,) = await receiver.wait_for(1)
    assert received.event["type"] == "webhook.disabled"
    assert received.event["data"]["webhook"]["id"] == "wh_broken"
    assert await desk.pool.fetchval("SELECT count(*) FROM timeline") == 0
