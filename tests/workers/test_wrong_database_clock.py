"""The database's clock is moved by a year while the service runs, and then corrected."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis.asyncio
from aiohttp import web
from msgspec.structs import replace

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Postgres
from service.database.connect import create_pool
from service.database.partitions import make_missing_partitions
from service.events.wake_ups import Wakeups
from service.settings import Settings
from service.webhooks.reconciliation import reconcile_since
from sql.migrate import migrate
from tests.harness.running_service import run_service, wait_until
from tests.loopback.receiver import Received, run_receiver
from workers.janitor import Janitor
from workers.jobs import WorkerContext

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
"""The library of Debian's package libfaketime."""
TIMEOUT_S = 60


class WrongPostgres(Postgres):
    """A PostgreSQL with a wrong clock."""

    offset: str | None = None
    """The offset in libfaketime's format; None for a right clock."""

    def arguments(self) -> list[str]:
        # Not in the launcher's environment: libfaketime could not open its semaphore as another
        # user.
        fake = ["LD_PRELOAD=" + str(FAKETIME), "FAKETIME_DONT_FAKE_MONOTONIC=1"]
        prefix = [] if self.offset is None else ["/usr/bin/env", *fake, f"FAKETIME={self.offset}"]
        return [*prefix, *super().arguments()]


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[WrongPostgres]:
    async with WrongPostgres(prepare_folder(tmp_path / "clock"), durable=False) as server:
        await migrate(server.dsn)
        yield server


@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed")
@pytest.mark.parametrize("offset", ["+365d", "-365d"])
async def test_leads_are_captured_and_sent_before_during_and_after_a_wrong_clock(
    postgres: WrongPostgres,
    redis_url: str,
    redis_client: redis.asyncio.Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    offset: str,
) -> None:
    """Events written while the clock is behind seem older than the webhook."""
    monkeypatch.setattr("service.database.clock.COMPARE_EVERY_S", 0.5)
    settings = replace(settings, database_url=postgres.dsn, redis_url=redis_url, log_level="error")
    async with (
        run_receiver() as receiver,
        await create_pool(settings, "tests") as pool,
        run_service(settings, pool) as running,
    ):
        endpoint_id = await running.add_webhook(receiver.url)
        emails = []
        for number, clock in enumerate((None, offset, None)):
            if number:
                await postgres.stop()
                postgres.offset = clock
                await postgres.start()
            email = f"{number}@example.com"

            async def is_captured(email: str = email) -> bool:
                return (await running.api.post("/v1/leads", {"email": email})).status == 201

            async def is_sent(email: str = email) -> bool:
                return email in {r.event["data"]["lead"]["email"] for r in receiver.received}

            await wait_until(is_captured, TIMEOUT_S)
            await wait_until(is_sent, TIMEOUT_S)
            emails.append(email)
            await running.wait_finished(endpoint_id, len(emails))
        sent = [received.event["data"]["lead"]["email"] for received in receiver.received]
        assert sorted(set(sent)) == emails
        attempts = await pool.fetchval("SELECT count(*) FROM attempt")
        assert attempts == len(sent)
        context = WorkerContext(settings, pool, redis_client, Wakeups(redis_client), "tests")
        await Janitor(context).once()
        assert await pool.fetchval("SELECT count(*) FROM outbox WHERE type = 'lead.created'") == 3
        async with pool.acquire() as conn:

            async def is_counted() -> bool:
                found, _ = await reconcile_since(conn, datetime.min.replace(tzinfo=UTC))
                assert found.differences == []
                return found.expected >= len(emails)

            # Only events that every fan-out has read are counted; each fan-out reads at its own
            # pace.
            await wait_until(is_counted, TIMEOUT_S)


@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed")
async def test_an_endpoint_paused_while_the_clock_was_ahead_continues_afterwards(
    postgres: WrongPostgres, redis_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.database.clock.COMPARE_EVERY_S", 0.5)
    monkeypatch.setattr("workers.delivery.maintenance.REPAIR_EVERY_S", 0.5)
    settings = replace(settings, database_url=postgres.dsn, redis_url=redis_url, log_level="error")
    is_up = False

    async def respond(_: Received) -> web.Response:
        headers = {} if is_up else {"Retry-After": "3600"}
        return web.Response(status=200 if is_up else 503, headers=headers)

    await postgres.stop()
    postgres.offset = "+365d"
    await postgres.start()
    async with await create_pool(settings, "tests") as pool:
        await make_missing_partitions(pool)
    async with (
        run_receiver(respond) as receiver,
        await create_pool(settings, "tests") as pool,
        run_service(settings, pool) as running,
    ):

        async def is_captured() -> bool:
            return (await running.api.post("/v1/leads", {"email": "a@example.com"})).status == 201

        async def is_paused() -> bool:
            found: bool = await pool.fetchval(
                "SELECT bool_and(h.closed_until > now() AND d.due_at > now()) "
                "FROM endpoint_health h JOIN delivery d USING (endpoint_id)"
            )
            return found

        endpoint_id = await running.add_webhook(receiver.url)
        await wait_until(is_captured, TIMEOUT_S)
        await wait_until(is_paused, TIMEOUT_S)
        await postgres.stop()
        postgres.offset = None
        await postgres.start()
        is_up = True

        async def is_sent() -> bool:
            return len(receiver.received) > 1

        await wait_until(is_sent, TIMEOUT_S)
        (final,) = await running.wait_finished(endpoint_id, 1)
        assert final["outcome"] == "delivered"
