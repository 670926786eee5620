"""Carries out replays page by page; each statement stores the progress of its replay."""

import sql
from service.telemetry.logging import get_logger
from workers.jobs import Job, WorkerContext

PAGE = 500
MAX_WAITING = 2000
"""The limit of retries and replayed deliveries that wait for an endpoint of a replay."""
log = get_logger("replayer")


class Replayer(Job):
    """Advances one replay by one page at a time."""

    name = "replayer"
    idle_s = 0.5
    """A new replay starts within this time; no caller waits for it."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    async def once(self) -> int:
        """Advances a replay. Returns 1 plus the number of examined deliveries; 0: no replay."""
        row = await self._context.pool.fetchrow(sql.replay_advance_one, PAGE, MAX_WAITING)
        if row is None:
            return 0
        if row["sent"]:
            self._context.wakeups.notify("delivery")
        if row["state"] == "done":
            log.info("replay.done", replay_id=row["id"], endpoint_id=row["endpoint_id"])
        return 1 + int(row["seen"])
