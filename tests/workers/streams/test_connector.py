"""The example connector as users run it: a process of its own, killed and restarted."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from service.db import Pool, create_pool
from service.dev.datafolder import prepare_folder
from service.dev.servers import Valkey
from service.log import SHARDS
from service.settings import Settings
from tests.cluster import Cluster
from tests.workers.streaming import Stage, begin_generation, publish
from workers.publisher import Publisher
from workers.streams.places import StreamName
from workers.streams.redis_streams import make_key

SCRIPT = Path(__file__).parents[3] / "deploy/examples/crm_connector.py"
WAIT_S = 15.0
Line = dict[str, Any]


@dataclass
class Connector:
    """A run of the script, and the lines it has printed."""

    process: asyncio.subprocess.Process
    lines: list[Line] = field(default_factory=list)

    async def wait_until(self, is_enough: Callable[["Connector"], bool]) -> None:
        """Reads lines until there are enough of them."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while not is_enough(self):
                line = await self.process.stdout.readline()
                assert line, "the connector ended"
                self.lines.append(json.loads(line))

    async def wait_for_events(self, event_ids: list[str]) -> None:
        await self.wait_until(lambda c: set(event_ids) <= {line.get("eventId") for line in c.lines})

    async def wait_for_notice(self, text: str) -> Line:
        await self.wait_until(lambda c: any(text in line.get("notice", "") for line in c.lines))
        return next(line for line in self.lines if text in line.get("notice", ""))

    @property
    def events(self) -> list[Line]:
        return [line for line in self.lines if "eventId" in line]


@dataclass
class Starter:
    """Starts connectors that share a group and a memory; ends them all at last."""

    redis_url: str
    memory: Path
    stack: AsyncExitStack

    async def start(self, *arguments: str) -> Connector:
        return await self.stack.enter_async_context(self._run(arguments))

    @asynccontextmanager
    async def _run(self, arguments: tuple[str, ...]) -> AsyncIterator[Connector]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), "--group", "crm", "--redis", self.redis_url,
            "--memory", str(self.memory), *arguments, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield Connector(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


pytestmark = pytest.mark.usefixtures("tend_every_turn")


@pytest.fixture
async def publisher(stage: Stage) -> Publisher:
    publisher = stage.make_publisher()
    await publish(publisher)
    return publisher


@pytest.fixture
async def starter(redis_url: str, tmp_path: Path) -> AsyncIterator[Starter]:
    async with AsyncExitStack() as stack:
        yield Starter(redis_url, tmp_path / "crm.sqlite", stack)


def find_versions(lines: list[Line], lead_id: str) -> list[int]:
    return [line["version"] for line in lines if line["leadId"] == lead_id]


async def test_it_prints_every_event_once_and_acknowledges(
    stage: Stage, publisher: Publisher, starter: Starter
) -> None:
    connector = await starter.start()
    for _ in range(3):
        await stage.log(40)
        await publish(publisher)
    await connector.wait_for_events(stage.logged)
    assert sorted(line["eventId"] for line in connector.events) == sorted(stage.logged)
    for lead_id, version in stage.versions.items():
        assert find_versions(connector.events, lead_id) == list(range(1, version + 1))
    first = connector.events[0]
    assert first["action"] == "upsert"
    assert (first["tenant"], first["mode"]) == ("7", "live")
    assert first["lead"] == {"id": first["leadId"]}
    connector.process.terminate()
    assert await connector.process.wait() == 0
    pending = [await stage.redis.xpending(make_key(StreamName(s, 1)), "crm") for s in SHARDS]
    assert [p["pending"] for p in pending] == [0] * 8


async def test_killed_and_restarted_it_misses_nothing(
    stage: Stage, publisher: Publisher, starter: Starter
) -> None:
    lines: list[Line] = []
    for round_ in range(4):
        connector = await starter.start()
        await stage.log(300)
        await publish(publisher)
        some = 1 + 90 * round_
        await connector.wait_until(lambda c, n=some: len(c.events) >= n)  # type: ignore[misc]
        connector.process.kill()
        rest, _ = await connector.process.communicate()
        printed = [
            json.loads(line) for line in rest.splitlines(keepends=True) if line[-1:] == b"\n"
        ]
        lines += connector.events + [line for line in printed if "eventId" in line]
    last = await starter.start()
    done = {line["eventId"] for line in lines}
    await last.wait_for_events([event_id for event_id in stage.logged if event_id not in done])
    lines += last.events
    assert {line["eventId"] for line in lines} == set(stage.logged)
    assert len(lines) < len(stage.logged) + 4 * 8 * 200  # only what was in hand comes twice
    for lead_id, version in stage.versions.items():
        told = list(dict.fromkeys(find_versions(lines, lead_id)))
        assert told == list(range(1, version + 1))


@pytest.mark.parametrize("running", [True, False])
async def test_after_a_flush_it_goes_on_and_repeats_nothing(
    stage: Stage, publisher: Publisher, starter: Starter, running: bool
) -> None:
    before = await starter.start()
    await stage.log(40)
    await publish(publisher)
    await before.wait_for_events(stage.logged)
    if not running:
        before.process.terminate()
        await before.process.wait()
    missed = await stage.log(40)
    await publish(publisher)
    await stage.redis.flushall()
    await publish(publisher)
    missed += await stage.log(40)
    await publish(publisher)
    after = before if running else await starter.start()
    await after.wait_for_events(missed)
    told = [line["eventId"] for line in before.events]
    told += [line["eventId"] for line in after.events] if not running else []
    assert sorted(told) == sorted(stage.logged)


async def test_it_takes_over_what_another_consumer_left(
    stage: Stage, publisher: Publisher, starter: Starter
) -> None:
    await stage.log(40)
    await publish(publisher)
    for shard in SHARDS:
        key = make_key(StreamName(shard, 1))
        await stage.redis.xgroup_create(key, "crm", "0", mkstream=True)
        await stage.redis.xreadgroup("crm", "one that died", {key: ">"})
    connector = await starter.start("--claim-after", "0.001")
    await connector.wait_for_events(stage.logged)


async def test_it_tells_when_events_are_missing(
    stage: Stage, publisher: Publisher, starter: Starter
) -> None:
    connector = await starter.start()
    await stage.log(1, leads=1)
    stage.versions["lead_0"] += 2
    await stage.log(1, leads=1)
    await publish(publisher)
    notice = await connector.wait_for_notice("events are missing")
    assert (notice["leadId"], notice["from"], notice["to"]) == ("lead_0", 2, 3)
    await connector.wait_for_events(stage.logged)


async def test_it_waits_for_a_redis_that_is_not_there_yet(
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
        stage = Stage(committed, redis, settings)
        await stage.log(10)
        await publish(stage.make_publisher())
        await connector.wait_for_events(stage.logged)


async def test_it_follows_a_new_generation_after_the_end_of_the_old(
    cluster: Cluster, redis_client: Redis, settings: Settings, starter: Starter
) -> None:
    async with cluster.make_database() as dsn:
        pool = await create_pool(replace(settings, database_url=dsn), "tests")
        stage = Stage(pool, redis_client, settings)
        publisher = stage.make_publisher()
        await stage.log(40)
        await publish(publisher)
        connector = await starter.start()
        await connector.wait_for_events(stage.logged)
        connector.process.terminate()
        await connector.process.wait()
        await stage.log(40)
        await publish(publisher)
        await begin_generation(pool)
        await stage.log(40)
        await publish(publisher)
        later = await starter.start()
        await later.wait_for_events(stage.logged[40:])
        told = connector.events + later.events
        assert sorted(line["eventId"] for line in told) == sorted(stage.logged)
        for lead_id, version in stage.versions.items():
            assert find_versions(told, lead_id) == list(range(1, version + 1))
        await pool.close()


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crm_connector", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_line_to_read_says_who_and_what(script: ModuleType) -> None:
    lead = {"email": "sarah@acmecorp.com", "name": "Sarah Chen", "company": None,
            "status": "qualified", "score": 82}  # fmt: skip
    told = {"action": "upsert", "type": "lead.qualified", "leadId": "lead_1", "version": 3,
            "lead": lead}  # fmt: skip
    line = script.make_line(told)
    assert line == (
        "upsert lead.qualified   v3    sarah@acmecorp.com · Sarah Chen · qualified · score 82"
    )


def test_a_stranger_cannot_write_to_the_terminal(script: ModuleType) -> None:
    lead = {"email": "a@b.example", "name": "\x1b]0;pwned\x07\r\n", "score": 1}
    told = {"action": "upsert", "type": "lead.created", "leadId": "l", "version": 1, "lead": lead}
    assert script.make_line(told).isprintable()
