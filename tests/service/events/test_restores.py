"""Restores of the database to an earlier state, in each possible way.

A cursor from after that state is refused, even when as many new ticks have been cut; a cursor from
before it stays valid. A restart and a crash begin no new generation.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from msgspec.structs import replace

import sql
from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.server_programs import find_postgres_programs
from service.cli.dev.servers import Postgres, Valkey
from service.database.connect import create_pool
from service.database.hidden_numbers import HiddenNumbers
from service.errors import InvalidRequest
from service.events.event_log import SHARDS
from service.events.feed import EventQuery, encode_cursor, find_events, find_position
from service.settings import Settings
from sql.migrate import migrate
from tests.harness.worker_harness import WorkerHarness, make_worker_harness
from tests.service.cli.commandline import Command, bare
from workers.publisher import Publisher
from workers.streams.positions import StreamName, parse_entry_id
from workers.streams.redis_streams import make_key
from workers.streams.restore_detection import LogPosition, NewestPosition
from workers.ticker import UNSEEN_GENERATIONS, Ticker

__all__ = ["bare"]  # a fixture
MORE = 16


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[Postgres]:
    async with Postgres(prepare_folder(tmp_path / "data"), durable=False) as server:
        await migrate(server.dsn)
        yield server


class LogClient:
    """Writes leads to a database and reads its events."""

    def __init__(self, harness: WorkerHarness) -> None:
        self._harness = harness
        self.context = harness.context

    async def capture(self, *names: str) -> str:
        """Create leads, each in a window of its own; return the cursor after them."""
        for name in names:
            await self._harness.capture(f'{{"email": "{name}@acme.com"}}')
            await self._harness.drain()
        cipher = await HiddenNumbers(self._harness.pool).open()
        return encode_cursor(await find_position(self._harness.pool, "latest", cipher), cipher)

    async def read(self, after: str) -> list[str]:
        """Return the names of the leads with events after a cursor."""
        pool, principal = self._harness.pool, self._harness.principal
        position = await find_position(pool, after, await HiddenNumbers(pool).open())
        texts: list[bytes] = []
        while True:
            page = await find_events(pool, principal, position, EventQuery(limit=500))
            texts += [text for _, text in page.events]
            position = page.after
            if not page.more:
                return [text.split(b'"email":"')[1].split(b"@")[0].decode() for text in texts]

    async def write(self, name: str) -> str:
        """Create a lead without a tick; return the id of its event."""
        [event] = await self._harness.events(
            await self._harness.capture(f'{{"email": "{name}@acme.com"}}')
        )
        return str(event["event_id"])

    async def publish(self, generation: int) -> list[str]:
        """Publish the log; return the ids of events in the streams of a generation, in order."""
        context = self._harness.context
        publisher = Publisher(context)
        await self._harness.drain(publisher)
        entries = []
        for shard in SHARDS:
            entries += await context.redis.xrange(make_key(StreamName(shard, generation)))
        entries.sort(key=lambda entry: parse_entry_id(entry[0]))
        return [fields[b"event_id"].decode() for _, fields in entries]

    async def generation(self) -> int:
        await self._harness.drain()
        [row] = await self._harness.pool.fetch(sql.tick_get_newest)
        return int(row["generation"])


@asynccontextmanager
async def open_log(
    dsn: str, settings: Settings, client: redis.asyncio.Redis
) -> AsyncIterator[LogClient]:
    """Start the workers on a database; yield a client for its first tenant."""
    async with await create_pool(replace(settings, database_url=dsn), "restores") as pool:
        harness = await make_worker_harness(pool, settings, client)
        tenant = await pool.fetchval("SELECT min(id) FROM tenant")
        yield LogClient(
            WorkerHarness(
                harness.context, harness.leads, replace(harness.principal, tenant_id=tenant)
            )
        )


def name_more(word: str) -> list[str]:
    return [f"{word}{number}" for number in range(MORE)]


async def check(log: LogClient, before: str, lost: str, generation: int) -> None:
    """Check both cursors after a restore, also with as many new leads as were lost."""
    with pytest.raises(InvalidRequest, match="has been restored"):
        await log.read(lost)
    await log.capture(*name_more("new"), "newest")
    with pytest.raises(InvalidRequest, match="has been restored"):
        await log.read(lost)
    assert await log.read(before) == ["kept", *name_more("new"), "newest"]
    assert await log.generation() == generation


async def run(program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL, or a program given by its path."""
    path = find_postgres_programs() / program
    process = await asyncio.create_subprocess_exec(path, *arguments)
    assert await process.wait() == 0


async def test_a_dump_is_loaded_into_another_database_of_the_same_server(
    postgres: Postgres, settings: Settings, redis_client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    async with open_log(postgres.dsn, settings, redis_client) as log:
        before = await log.capture("old")
        await log.capture("kept")
        await run("pg_dump", "-Fc", "-f", str(tmp_path / "dump"), postgres.dsn)
        lost = await log.capture(*name_more("lost"))
    admin = await asyncpg.connect(postgres.dsn_of("postgres", "postgres"))
    await admin.execute("CREATE DATABASE other OWNER leadlog")
    await admin.close()
    await run("pg_restore", "-d", postgres.dsn_of("leadlog", "other"), str(tmp_path / "dump"))
    async with open_log(postgres.dsn_of("leadlog", "other"), settings, redis_client) as log:
        await check(log, before, lost, 2)


async def test_two_databases_with_the_same_dump_and_redis_have_streams_of_their_own(
    postgres: Postgres, settings: Settings, redis_client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    async with open_log(postgres.dsn, settings, redis_client) as log:
        await log.capture("kept")
        await run("pg_dump", "-Fc", "-f", str(tmp_path / "dump"), postgres.dsn)
    admin = await asyncpg.connect(postgres.dsn_of("postgres", "postgres"))
    for generation, name in enumerate(("first", "second"), 2):
        await admin.execute(f"CREATE DATABASE {name} OWNER leadlog")
        dsn = postgres.dsn_of("leadlog", name)
        await run("pg_restore", "-d", dsn, str(tmp_path / "dump"))
        async with open_log(dsn, settings, redis_client) as log:
            written = [await log.write(word) for word in name_more(name)]  # before workers run
            assert await log.generation() == generation
            assert await log.publish(generation) == written
    await admin.close()


async def test_a_restore_without_redis_skips_generation_numbers_that_may_be_in_use(
    postgres: Postgres, settings: Settings
) -> None:
    conn = await asyncpg.connect(postgres.dsn)
    await conn.execute("UPDATE log_home SET place = 'another/1/1'")
    await conn.close()
    async with (
        redis.asyncio.Redis.from_url("redis://127.0.0.1:1") as client,
        open_log(postgres.dsn, settings, client) as log,
    ):
        assert await log.generation() - 1 in UNSEEN_GENERATIONS


async def test_a_redis_that_responds_late_still_reveals_a_restore(
    postgres: Postgres, settings: Settings, redis_client: redis.asyncio.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("workers.ticker.CHECK_EVERY_S", 0.0)
    async with open_log(postgres.dsn, settings, redis_client) as log:
        await log.capture("kept")
        ticker = Ticker(log.context)
        stored = ticker._newest_position
        home = await log.context.pool.fetchval(sql.log_check, 0, 0)
        newer = LogPosition(1, 1_000_000)
        await stored.write(home, newer)
        async with redis.asyncio.Redis.from_url("redis://127.0.0.1:1") as away:
            ticker._newest_position = NewestPosition(away)
            await ticker.once()
            assert await stored.read(home) == newer
            ticker._newest_position = stored
            await ticker.once()
        [row] = await log.context.pool.fetch(sql.tick_get_newest)
        assert row["generation"] == 2


async def test_a_dump_is_loaded_into_the_same_database(
    postgres: Postgres, settings: Settings, redis_client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    async with open_log(postgres.dsn, settings, redis_client) as log:
        before = await log.capture("old")
        await log.capture("kept")
        await run("pg_dump", "-Fc", "-f", str(tmp_path / "dump"), postgres.dsn)
        lost = await log.capture(*name_more("lost"))
        # The same workers continue: their positions in the log are no longer valid.
        conn = await asyncpg.connect(postgres.dsn)
        await conn.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await conn.close()
        await run("pg_restore", "-d", postgres.dsn, str(tmp_path / "dump"))
        await check(log, before, lost, 2)


@pytest.mark.parametrize("evidence", ["files", "redis"])
async def test_a_copy_of_the_data_folder_is_restored(
    postgres: Postgres, settings: Settings, redis_client: redis.asyncio.Redis, evidence: str
) -> None:
    """The inode and time of PG_VERSION show the restore or, if rsync kept that file, Redis does."""
    folder, copy = postgres.folder, postgres.folder.with_name("copy")
    async with open_log(postgres.dsn, settings, redis_client) as log:
        before = await log.capture("old")
        await log.capture("kept")
    await postgres.stop()
    await run("/bin/cp", "-a", str(folder), str(copy))
    await postgres.start()
    async with open_log(postgres.dsn, settings, redis_client) as log:
        lost = await log.capture(*name_more("lost"))
        assert await log.generation() == 1
    await postgres.stop()
    if evidence == "files":
        await redis_client.flushall()
        shutil.rmtree(folder)
        copy.rename(folder)
    else:
        restore_all_but(copy, folder, "PG_VERSION")
    await postgres.start()
    async with open_log(postgres.dsn, settings, redis_client) as log:
        await check(log, before, lost, 2)


def restore_all_but(copy: Path, folder: Path, unchanged: str) -> None:
    """Restore the files of a copy but one, as rsync does with an unchanged file."""
    (copy / unchanged).unlink()
    for path in [path for path in folder.iterdir() if path.name != unchanged]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in list(copy.iterdir()):
        path.rename(folder / path.name)


async def test_a_recovery_to_a_point_in_time_begins_a_generation(
    postgres: Postgres, settings: Settings, redis_client: redis.asyncio.Redis
) -> None:
    async with open_log(postgres.dsn, settings, redis_client) as log:
        before = await log.capture("old")
        await log.capture("kept")
        assert await log.generation() == 1
    await postgres.stop()
    with (postgres.folder / "postgresql.auto.conf").open("a") as file:
        file.write("restore_command = 'false'\n")
    (postgres.folder / "recovery.signal").touch()
    await postgres.start()
    conn = await asyncpg.connect(postgres.dsn)
    while await conn.fetchval("SELECT pg_is_in_recovery()"):  # noqa: ASYNC110  # another process
        await asyncio.sleep(0.05)
    await conn.close()
    async with open_log(postgres.dsn, settings, redis_client) as log:
        assert await log.generation() == 2
        await log.capture("new")
        assert await log.read(before) == ["kept", "new"]


def test_an_operator_can_begin_a_generation_by_hand(
    bare: Command, postgres: Postgres, valkey: Valkey
) -> None:
    """The new generation has a number that Redis has not seen."""
    bare.set("DATABASE_URL", postgres.dsn)
    bare.set("REDIS_URL", valkey.url)
    asyncio.run(use_generations(valkey.url, 1, 4))
    for generation in (5, 6):
        done = bare("events", "new-generation")
        assert (done.code, done.out) == (0, "")
        assert done.err == f"Generation {generation} of the log has begun.\n"
    asyncio.run(use_generations(valkey.url))


async def use_generations(url: str, *generations: int) -> None:
    """Empty Redis, then mark the generations as used."""
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.flushall()
        for generation in generations:
            await NewestPosition(client).write("home", LogPosition(generation, 1))


def test_a_generation_by_hand_needs_redis(bare: Command, postgres: Postgres) -> None:
    bare.set("DATABASE_URL", postgres.dsn)
    bare.set("REDIS_URL", "redis://:geheim@127.0.0.1:1")
    done = bare("events", "new-generation")
    assert done.sentence.startswith(
        "leadlog: Redis on 127.0.0.1:1 cannot be used (Connection refused): "
    )


async def test_a_restart_and_a_crash_begin_no_generation(
    postgres: Postgres, settings: Settings, redis_client: redis.asyncio.Redis
) -> None:
    async with open_log(postgres.dsn, settings, redis_client) as log:
        before = await log.capture("old")
        await log.capture("kept")
    await postgres.stop()
    await postgres.start()
    async with open_log(postgres.dsn, settings, redis_client) as log:
        await log.capture("restarted")
    os.kill(postgres.pid, signal.SIGKILL)
    await postgres.stop()
    await postgres.start()
    async with open_log(postgres.dsn, settings, redis_client) as log:
        await log.capture("crashed")
        assert await log.read(before) == ["kept", "restarted", "crashed"]
        assert await log.generation() == 1
