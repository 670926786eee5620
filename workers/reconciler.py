"""Once an hour, counts whether every event became its deliveries, and says so if not."""

import sql
from service.logs import get_logger
from service.metrics import DELIVERIES_MISSING
from service.reconciling import reconcile
from service.wakeups import Topic
from workers.slices import Workshop

EVERY_S = 3600.0
log = get_logger("reconciler")


class Reconciler:
    """See service/reconciling.py."""

    name = "reconciler"
    topics: tuple[Topic, ...] = ()
    idle_s = 5.0
    has_all = False

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    async def once(self) -> int:
        """Counts if an hour has gone by; never asks for another turn at once."""
        async with self._shop.pool.acquire() as conn:
            if not await conn.fetchval(sql.reconciliation_is_due, EVERY_S):
                return 0
            found = await reconcile(conn)
        DELIVERIES_MISSING.set(sum(one.missing + one.doubled for one in found.differences))
        for one in found.differences:
            log.error(
                "deliveries.differ", tenant_id=one.tenant_id, live=one.live,
                endpoint_id=one.endpoint_id, expected=one.expected, missing=one.missing,
                doubled=one.doubled,
            )  # fmt: skip
        for gone in found.expired:
            log.error(
                "deliveries.expired", tenant_id=gone.tenant_id, live=gone.live,
                endpoint_id=gone.endpoint_id, count=gone.count,
            )  # fmt: skip
        log.info("deliveries.reconciled", endpoints=found.endpoints, expected=found.expected)
        return 0

    async def close(self) -> None:
        """Nothing is left running."""
