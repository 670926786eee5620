"""Carries out replays, a page at a time: each statement notes how far it has come."""

import sql
from service.logs import get_logger
from service.wakeups import Topic
from workers.slices import Workshop

PAGE = 500
MAX_WAITING = 2000
"""Replayed deliveries that may wait for one endpoint, so that a long replay fills no table."""
log = get_logger("replayer")


class Replayer:
    """One part of one replay per turn."""

    name = "replayer"
    topics: tuple[Topic, ...] = ()
    idle_s = 0.5
    """Nobody waits for the first page of a replay: it is found within this time."""
    has_all = False

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    async def once(self) -> int:
        """How many finished deliveries it looked at."""
        row = await self._shop.pool.fetchrow(sql.replay_advance_one, PAGE, MAX_WAITING)
        if row is None:
            return 0
        if row["sent"]:
            self._shop.wakeups.notify("delivery")
        if row["state"] == "done":
            log.info("replay.done", replay_id=row["id"], endpoint_id=row["endpoint_id"])
        return 1 + int(row["seen"])

    async def close(self) -> None:
        """Nothing is left running."""
