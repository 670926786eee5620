"""The example connector fetches events that are too large for the streams, and loses none."""

from collections.abc import AsyncIterator

import pytest

from service.events.event_log import SHARDS
from service.settings import Settings
from tests.harness.api_client import serve_api
from tests.harness.factories import Tenant, make_tenant
from tests.workers.streams.connecting import Starter
from tests.workers.streams.stream_harness import StreamHarness, publish
from workers.publisher import Publisher
from workers.streams.positions import StreamName
from workers.streams.redis_streams import LARGE_EVENT_BYTES, make_key

pytestmark = pytest.mark.usefixtures("maintain_every_turn")


@pytest.fixture
async def tenant(stream_harness: StreamHarness) -> Tenant:
    """The tenant of the harness's leads."""
    async with stream_harness.pool.acquire() as conn:
        tenant = await make_tenant(conn)
    stream_harness.tenant_id = tenant.id
    return tenant


@pytest.fixture
async def url(settings: Settings) -> AsyncIterator[str]:
    async with serve_api(settings) as url:
        yield url


async def log_large(stream_harness: StreamHarness, publisher: Publisher) -> None:
    """Logs small events with a large one in between."""
    await publish(publisher)
    await stream_harness.log(3, leads=1)
    await stream_harness.log(1, leads=1, filler=2 * LARGE_EVENT_BYTES)
    await stream_harness.log(3, leads=1)
    await publish(publisher)


async def count_unacknowledged(stream_harness: StreamHarness) -> int:
    keys = [make_key(StreamName(shard, 1)) for shard in SHARDS]
    return sum([(await stream_harness.redis.xpending(key, "crm"))["pending"] for key in keys])


async def test_a_large_event_arrives_whole_and_in_order(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter, tenant: Tenant, url: str
) -> None:
    await log_large(stream_harness, publisher)
    connector = await starter.start("--api", url, "--key", tenant.key("read"))
    await connector.wait_for_events(stream_harness.logged)
    assert [line["eventId"] for line in connector.events] == stream_harness.logged
    assert [line["version"] for line in connector.events] == list(range(1, 8))
    assert len(connector.events[3]["lead"]["name"]) == 2 * LARGE_EVENT_BYTES


async def test_without_a_key_of_its_tenant_and_mode_the_connector_waits_at_a_large_event(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter, tenant: Tenant, url: str
) -> None:
    async with stream_harness.pool.acquire() as conn:
        other = await make_tenant(conn)
    await log_large(stream_harness, publisher)
    for key in (other.key("read"), tenant.key("read", live=False)):
        connector = await starter.start("--api", url, "--key", key, "--mode", "live")
        await connector.wait_for_notice(f"give --mode live and a read --key of tenant {tenant.id}")
        await connector.stop()
        assert not {line["eventId"] for line in connector.events} & set(stream_harness.logged[3:])
        assert await count_unacknowledged(stream_harness) > 0
    connector = await starter.start("--api", url, "--key", tenant.key("read"), "--mode", "live")
    await connector.wait_for_events(stream_harness.logged[3:])
    assert [line["eventId"] for line in connector.events] == stream_harness.logged[3:]


async def test_a_large_event_of_no_key_does_not_delay_those_of_the_keys(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter, tenant: Tenant, url: str
) -> None:
    async with stream_harness.pool.acquire() as conn:
        other = await make_tenant(conn)
    await log_large(stream_harness, publisher)
    stream_harness.live = False
    in_test_mode = await stream_harness.log(2, leads=1, filler=2 * LARGE_EVENT_BYTES)
    stream_harness.tenant_id = other.id
    unwanted = await stream_harness.log(2, leads=1, filler=2 * LARGE_EVENT_BYTES)
    stream_harness.tenant_id, stream_harness.live = tenant.id, True
    await stream_harness.log(2, leads=1)
    await publish(publisher)
    wanted = [event for event in stream_harness.logged if event not in unwanted]
    keys = ("--key", tenant.key("read"), "--key", tenant.key("read", live=False))
    connector = await starter.start("--api", url, *keys)
    await connector.wait_for_events(wanted)
    await connector.stop()
    assert [line["eventId"] for line in connector.events] == wanted
    modes = {line["eventId"]: line["mode"] for line in connector.events}
    assert {event for event in modes if modes[event] == "test"} == set(in_test_mode)
    assert connector.lines[-1]["count"] == len(unwanted)
    assert await count_unacknowledged(stream_harness) == 0


async def test_with_a_key_that_is_not_valid_the_connector_waits_and_acknowledges_nothing(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter, tenant: Tenant, url: str
) -> None:
    await log_large(stream_harness, publisher)
    connector = await starter.start("--api", url, "--key", "sk_live_" + "x" * 32)
    await connector.wait_for_notice("the API answered 401 to the key that ends with xxxx")
    await connector.stop()
    assert connector.events == []
    connector = await starter.start("--api", url, "--key", tenant.key("read"))
    await connector.wait_for_events(stream_harness.logged)


async def test_a_large_event_that_is_no_longer_kept_is_reported_and_skipped(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter, tenant: Tenant, url: str
) -> None:
    await log_large(stream_harness, publisher)
    await stream_harness.pool.execute("DELETE FROM tick WHERE tick < (SELECT tick FROM ticker)")
    connector = await starter.start("--api", url, "--key", tenant.key("read"))
    notice = await connector.wait_for_notice("not kept any more")
    assert notice["eventId"] == stream_harness.logged[3]
    await connector.wait_for_events(stream_harness.logged)
