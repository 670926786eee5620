"""/metrics shows missing deliveries and the lateness of deliveries."""

import aiohttp

from tests.harness.api_client import serve_api
from tests.harness.running_service import wait_until
from tests.harness.worker_harness import WorkerHarness
from tests.workers.webhooks.test_reconciler import fill
from workers.reconciler import Reconciler


async def test_metrics_show_differences_and_the_lateness_of_deliveries(
    harness: WorkerHarness,
) -> None:
    await fill(harness)
    await harness.pool.execute("UPDATE delivery SET due_at = now() - interval '1 hour'")
    await harness.pool.execute("DELETE FROM delivery WHERE version = 2")
    while await Reconciler(harness.context).once():
        pass
    async with serve_api(harness.context.settings) as url, aiohttp.ClientSession() as session:

        async def read(name: str) -> float:
            async with session.get(f"{url}/metrics") as response:
                text = await response.text()
            return float(text.partition(f"\n{name} ")[2].partition("\n")[0])

        async def wait_for(name: str, low: float, high: float) -> None:
            async def is_shown() -> bool:  # /metrics may be a second old
                return low <= await read(name) <= high

            await wait_until(is_shown)

        lateness = "leadlog_delivery_lateness_seconds"
        await wait_for("leadlog_deliveries_missing", 1, 1)
        await wait_for("leadlog_deliveries_unproven_seconds", 0, 60)
        await wait_for(lateness, 3600, 3660)
        await harness.pool.execute("UPDATE endpoint_health SET closed_until = now() + '1 hour'")
        await wait_for(lateness, 0, 0)
        await harness.pool.execute("UPDATE endpoint_health SET closed_until = NULL")
        await wait_for(lateness, 3600, 3660)
        await harness.pool.execute("UPDATE endpoint SET status = 'paused'")
        await wait_for(lateness, 0, 0)
        await harness.pool.execute("UPDATE reconciliation SET at = at - interval '2 days'")
        await wait_for("leadlog_deliveries_missing", 0, 0)
