"""The example connector in a process, as users run it, with kills and restarts."""

import importlib.util
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Valkey
from service.database.connect import Pool, create_pool
from service.events.event_log import SHARDS
from service.settings import Settings
from tests.harness.cluster import Cluster
from tests.workers.streams.connecting import SCRIPT, Line, Starter
from tests.workers.streams.stream_harness import StreamHarness, begin_generation, publish
from workers.publisher import Publisher
from workers.streams.positions import StreamName
from workers.streams.redis_streams import make_key

pytestmark = pytest.mark.usefixtures("maintain_every_turn")


@pytest.fixture
async def publisher(stream_harness: StreamHarness) -> Publisher:
    publisher = stream_harness.make_publisher()
    await publish(publisher)
    return publisher


def find_versions(lines: list[Line], lead_id: str) -> list[int]:
    return [line["version"] for line in lines if line["leadId"] == lead_id]


async def test_the_connector_prints_every_event_once_and_acknowledges(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter
) -> None:
    connector = await starter.start()
    for _ in range(3):
        await stream_harness.log(40)
        await publish(publisher)
    await connector.wait_for_events(stream_harness.logged)
    assert sorted(line["eventId"] for line in connector.events) == sorted(stream_harness.logged)
    for lead_id, version in stream_harness.versions.items():
        assert find_versions(connector.events, lead_id) == list(range(1, version + 1))
    first = connector.events[0]
    assert first["action"] == "upsert"
    assert (first["tenant"], first["mode"]) == ("7", "live")
    assert first["lead"] == {"id": first["leadId"]}
    connector.process.terminate()
    assert await connector.process.wait() == 0
    pending = [
        await stream_harness.redis.xpending(make_key(StreamName(s, 1)), "crm") for s in SHARDS
    ]
    assert [p["pending"] for p in pending] == [0] * 8


async def test_a_killed_connector_misses_nothing_after_its_restart(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter
) -> None:
    lines: list[Line] = []
    for round_ in range(4):
        connector = await starter.start()
        await stream_harness.log(300)
        await publish(publisher)
        await connector.wait_for_count(1 + 90 * round_)
        connector.process.kill()
        rest, _ = await connector.process.communicate()
        printed = [
            json.loads(line) for line in rest.splitlines(keepends=True) if line[-1:] == b"\n"
        ]
        lines += connector.events + [line for line in printed if "eventId" in line]
    last = await starter.start()
    done = {line["eventId"] for line in lines}
    await last.wait_for_events(
        [event_id for event_id in stream_harness.logged if event_id not in done]
    )
    lines += last.events
    assert {line["eventId"] for line in lines} == set(stream_harness.logged)
    # Only entries that were read but not acknowledged at a kill are printed twice.
    assert len(lines) < len(stream_harness.logged) + 4 * 8 * 200
    for lead_id, version in stream_harness.versions.items():
        versions = list(dict.fromkeys(find_versions(lines, lead_id)))
        assert versions == list(range(1, version + 1))


@pytest.mark.parametrize("running", [True, False])
async def test_after_a_flush_the_connector_continues_and_repeats_nothing(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter, running: bool
) -> None:
    before = await starter.start()
    await stream_harness.log(40)
    await publish(publisher)
    await before.wait_for_events(stream_harness.logged)
    if not running:
        before.process.terminate()
        await before.process.wait()
    missed = await stream_harness.log(40)
    await publish(publisher)
    await stream_harness.redis.flushall()
    await publish(publisher)
    missed += await stream_harness.log(40)
    await publish(publisher)
    after = before if running else await starter.start()
    await after.wait_for_events(missed)
    printed = [line["eventId"] for line in before.events]
    printed += [line["eventId"] for line in after.events] if not running else []
    assert sorted(printed) == sorted(stream_harness.logged)


async def test_the_connector_claims_the_entries_of_a_dead_consumer(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter
) -> None:
    await stream_harness.log(40)
    await publish(publisher)
    for shard in SHARDS:
        key = make_key(StreamName(shard, 1))
        await stream_harness.redis.xgroup_create(key, "crm", "0", mkstream=True)
        await stream_harness.redis.xreadgroup("crm", "dead consumer", {key: ">"})
    connector = await starter.start("--claim-after", "0.001")
    await connector.wait_for_events(stream_harness.logged)


async def test_the_connector_reports_missing_events(
    stream_harness: StreamHarness, publisher: Publisher, starter: Starter
) -> None:
    connector = await starter.start()
    await stream_harness.log(1, leads=1)
    stream_harness.versions["lead_0"] += 2
    await stream_harness.log(1, leads=1)
    await publish(publisher)
    notice = await connector.wait_for_notice("events are missing")
    assert (notice["leadId"], notice["from"], notice["to"]) == ("lead_0", 2, 3)
    await connector.wait_for_events(stream_harness.logged)


async def test_the_connector_waits_for_a_redis_that_is_not_running_yet(
    committed: Pool, settings: Settings, cluster: Cluster, tmp_path: Path
) -> None:
    folder = prepare_folder(Path(cluster.folder) / f"{cluster.worker}-late")
    async with AsyncExitStack() as stack:
        server = Valkey(folder, durable=False)
        connector = await Starter(server.url, tmp_path / "crm.sqlite", stack).start()
        await connector.wait_for_notice("cannot be reached")
        await stack.enter_async_context(server)
        await connector.wait_for_notice("has not written")
        redis = Redis.from_url(server.url)
        stack.push_async_callback(redis.aclose)
        stream_harness = StreamHarness(committed, redis, settings)
        await stream_harness.log(10)
        await publish(stream_harness.make_publisher())
        await connector.wait_for_events(stream_harness.logged)


@pytest.fixture
async def log_apart(
    cluster: Cluster, redis_client: Redis, settings: Settings
) -> AsyncIterator[StreamHarness]:
    """A log in a database of its own, in which a generation may begin."""
    async with (
        cluster.make_database() as dsn,
        await create_pool(replace(settings, database_url=dsn), "tests") as pool,
    ):
        yield StreamHarness(pool, redis_client, settings)


async def test_the_connector_enters_a_new_generation_after_the_end_of_the_old(
    log_apart: StreamHarness, starter: Starter
) -> None:
    publisher = log_apart.make_publisher()
    await log_apart.log(40)
    await publish(publisher)
    connector = await starter.start()
    await connector.wait_for_events(log_apart.logged)
    connector.process.terminate()
    await connector.process.wait()
    await log_apart.log(40)
    await publish(publisher)
    await begin_generation(log_apart.pool)
    await log_apart.log(40)
    await publish(publisher)
    later = await starter.start()
    await later.wait_for_events(log_apart.logged[40:])
    events = connector.events + later.events
    assert sorted(line["eventId"] for line in events) == sorted(log_apart.logged)
    for lead_id, version in log_apart.versions.items():
        assert find_versions(events, lead_id) == list(range(1, version + 1))


async def test_after_a_restore_lower_versions_are_applied_and_reported(
    log_apart: StreamHarness, starter: Starter
) -> None:
    publisher = log_apart.make_publisher()
    await log_apart.log(5, leads=1)
    await publish(publisher)
    connector = await starter.start()
    await connector.wait_for_events(log_apart.logged)
    await begin_generation(log_apart.pool)
    log_apart.versions["lead_0"] = 2  # as in the backup
    restored = await log_apart.log(4, leads=1)
    await publish(publisher)
    await connector.wait_for_events(restored)
    assert find_versions(connector.events, "lead_0") == [1, 2, 3, 4, 5, 3, 4, 5, 6]
    begun = await connector.wait_for_notice("a new generation of the log")
    assert begun["generation"] == 2
    notice = await connector.wait_for_notice("goes back to a lower version")
    assert (notice["leadId"], notice["from"], notice["to"]) == ("lead_0", 5, 3)


async def log_for_all(stream_harness: StreamHarness) -> dict[tuple[int, str], str]:
    """Logs an event of two tenants in both modes; returns its id by tenant and mode."""
    logged = {}
    for tenant in (7, 8):
        for mode in ("live", "test"):
            stream_harness.tenant_id, stream_harness.live = tenant, mode == "live"
            [logged[tenant, mode]] = await stream_harness.log(1, leads=1)
    return logged


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ("", [(7, "live"), (8, "live")]),
        ("--mode test", [(7, "test"), (8, "test")]),
        ("--tenant 8", [(8, "live")]),
        ("--tenant 8 --tenant 7 --mode test", [(7, "test"), (8, "test")]),
    ],
)
async def test_events_of_other_tenants_and_modes_are_acknowledged_and_only_counted(
    stream_harness: StreamHarness,
    publisher: Publisher,
    starter: Starter,
    options: str,
    chosen: list[tuple[int, str]],
) -> None:
    logged = await log_for_all(stream_harness)
    await publish(publisher)
    connector = await starter.start(*options.split())
    await connector.wait_for_events([logged[owner] for owner in chosen])
    await connector.stop()
    assert {line["eventId"] for line in connector.events} == {logged[owner] for owner in chosen}
    assert connector.lines[-1]["count"] == len(logged) - len(chosen)
    for shard in SHARDS:
        pending = await stream_harness.redis.xpending(make_key(StreamName(shard, 1)), "crm")
        assert pending["pending"] == 0


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crm_connector", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_terminal_line_shows_the_action_the_event_and_the_lead(script: ModuleType) -> None:
    lead = {"email": "sarah@acmecorp.com", "name": "Sarah Chen", "company": None,
            "status": "qualified", "score": 82}  # fmt: skip
    record = {"action": "upsert", "type": "lead.qualified", "leadId": "lead_1", "version": 3}
    line = script.make_line(record | {"lead": lead})
    assert line == (
        "upsert lead.qualified   v3    sarah@acmecorp.com · Sarah Chen · qualified · score 82"
    )


def test_a_lead_cannot_send_control_codes_to_the_terminal(script: ModuleType) -> None:
    lead = {"email": "a@b.example", "name": "\x1b]0;pwned\x07\r\n", "score": 1}
    record = {"action": "upsert", "type": "lead.created", "leadId": "l", "version": 1}
    assert script.make_line(record | {"lead": lead}).isprintable()
