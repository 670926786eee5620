"""Cuts the log into windows: one tick whenever something new has become visible."""

import asyncio
import time

import sql
from service.logs import get_logger
from service.metrics import TICKS
from service.wakeups import Topic
from workers.slices import Workshop

PAUSE_S = 0.005
"""Between two ticks of a busy log: longer windows make fuller batches, shorter ones less lag."""
LOOK_S = 1.0
"""How often an idle ticker asks whether it still knows the newest tick."""
log = get_logger("ticker")


class Ticker:
    """See service/log.py for what a tick is."""

    name = "ticker"
    topics: tuple[Topic, ...] = ("event",)
    idle_s = 0.2
    has_all = False

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._tick: int | None = None
        self._looked_at = 0.0

    async def once(self) -> int:
        """Cuts at most one tick; 1 if it did."""
        pool = self._shop.pool
        if self._tick is None:
            if await pool.fetchval(sql.log_begin_generation_if_moved):
                log.warning("generation.begun")
            self._tick = await pool.fetchval(sql.ticker_get_tick)
        tick = await pool.fetchval(sql.ticker_cut, self._tick)
        if tick is None:  # nothing new, or somebody else was faster
            if time.monotonic() - self._looked_at > LOOK_S:
                self._looked_at = time.monotonic()
                self._tick = await pool.fetchval(sql.ticker_get_tick)
            return 0
        self._tick = tick
        TICKS.inc()
        self._shop.wakeups.notify("tick")
        await asyncio.sleep(PAUSE_S)
        return 1

    async def close(self) -> None:
        """Nothing is left running."""
