"""Hot statements are planned once per session, not for every execution."""

import asyncio
from pathlib import Path

import asyncpg
from msgspec.structs import replace

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Postgres
from service.database.connect import create_pool
from service.settings import Settings
from sql.migrate import migrate
from tests.harness.running_service import run_service
from tests.loopback.receiver import run_receiver

LEADS = 1_500
WRITERS = 8
HOT_CALLS = 50
MOST_PLANS = 30
"""A session plans a statement once, and again after a change of its tables or their statistics."""


class CountingPostgres(Postgres):
    """A PostgreSQL that counts the plans and executions of each statement."""

    def arguments(self) -> list[str]:
        settings = ("shared_preload_libraries=pg_stat_statements", "track_planning=on")
        names = (settings[0], f"pg_stat_statements.{settings[1]}")
        return [*super().arguments(), *(part for name in names for part in ("-c", name))]


async def test_hot_statements_are_planned_a_bounded_number_of_times(
    settings: Settings, redis_url: str, tmp_path: Path
) -> None:
    async with CountingPostgres(prepare_folder(tmp_path / "counting"), durable=False) as postgres:
        await migrate(postgres.dsn)
        settings = replace(settings, database_url=postgres.dsn, redis_url=redis_url)
        admin = await asyncpg.connect(postgres.dsn_of("postgres", "leadlog"))
        await admin.execute("CREATE EXTENSION pg_stat_statements")
        async with (
            run_receiver() as receiver,
            await create_pool(settings, "tests") as pool,
            run_service(settings, pool) as running,
        ):
            endpoint_id = await running.add_webhook(receiver.url, "lead.created", "lead.updated")

            async def write(number: int) -> None:
                for at in range(number, LEADS, WRITERS):
                    fields = {"title": "CEO", "name": f"Name {at}"}
                    lead_id = await running.add_lead(f"{at}@company{at % 9}.com", **fields)
                    if at % 5 == 0:
                        await running.api.patch(f"/v1/leads/{lead_id}", {"company": "Acme"})
                    await running.api.get(f"/v1/leads/{lead_id}")

            await asyncio.gather(*(write(number) for number in range(WRITERS)))
            await running.wait_finished(endpoint_id, LEADS)
        rows = await admin.fetch(
            "SELECT query, calls, plans FROM pg_stat_statements "
            "WHERE toplevel AND calls > $1 AND query !~* '^(begin|commit|rollback)' ORDER BY plans",
            HOT_CALLS,
        )
        await admin.close()
    hot = {row["query"][:80]: (row["calls"], row["plans"]) for row in rows}
    assert len(hot) >= 6, hot
    assert {text: counts for text, counts in hot.items() if counts[1] > MOST_PLANS} == {}
