"""Servers for the fault runs, and the table at the end of `make faults`."""

import sys
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from msgspec.structs import replace

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Postgres, Valkey
from service.database.connect import create_pool
from service.settings import Settings
from sql.migrate import migrate
from tests.faults.fault_harness import FaultServers, Say
from tests.faults.ledger import Outcome
from tests.harness.worker_harness import WorkerHarness, make_worker_harness

_outcomes = pytest.StashKey[list[Outcome]]()


@pytest.fixture(scope="module")
async def servers(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FaultServers]:
    folder = prepare_folder(tmp_path_factory.mktemp("servers"))
    # Durable: a crash must lose nothing that was committed.
    async with Postgres(folder) as postgres, Valkey(folder, durable=False) as valkey:
        await migrate(postgres.dsn)
        logs = tmp_path_factory.mktemp("logs")
        own = replace(settings, database_url=postgres.dsn, redis_url=valkey.url, log_level="error")
        yield FaultServers(postgres, valkey, own, logs)


@pytest.fixture
async def writer(servers: FaultServers) -> AsyncIterator[WorkerHarness]:
    """A harness that writes as an API process does, with wake-ups, for a new tenant."""
    client = redis.asyncio.Redis.from_url(servers.settings.require_redis_url())
    async with await create_pool(servers.settings, "faults") as pool:
        bench = await make_worker_harness(pool, servers.settings, client)
        async with bench.context.wakeups.running(listening=False):
            yield bench
    await client.aclose()


@pytest.fixture
def say(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Say:
    """Prints the progress of a run on the terminal; prints nothing under xdist."""
    name = request.node.name

    def tell(text: str) -> None:
        if hasattr(request.config, "workerinput"):
            return
        with capfd.disabled():
            print(f"  {name}: {text}", file=sys.stderr, flush=True)  # noqa: T201

    return tell


@pytest.fixture
def keep(pytestconfig: pytest.Config) -> list[Outcome]:
    """The list of outcomes for the table."""
    return pytestconfig.stash.setdefault(_outcomes, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    outcomes = config.stash.get(_outcomes, [])
    if not outcomes:
        return
    terminalreporter.section("faults")
    row = "{:<44}{:>7}{:>9}{:>6}{:>10}{:>9}{:>9}{:>7}  {}"
    head = ("", "faults", "events", "lost", "disorder", "twice", "allowed", "s", "")
    terminalreporter.write_line(row.format(*head))
    for one in outcomes:
        counts = one.lost, one.inversions, one.duplicates, one.bound, round(one.seconds), one.notes
        terminalreporter.write_line(row.format(one.title, one.faults, f"{one.events:,}", *counts))
