"""Those who wait for something, in order of arrival, and how long who comes now would wait."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from service.errors import Overloaded
from service.metrics import REQUESTS_SHED

SMOOTHING = 0.02
"""What the newest interval weighs in the mean, once there are enough of them."""
Given = TypeVar("Given")


class Line(Generic[Given]):
    """What becomes free is given to who has waited longest, who has it from that moment on."""

    def __init__(
        self, name: str, take_back: Callable[[Given], None], limit_s: float = float("inf")
    ) -> None:
        """`take_back` gets what was given to one who gave up just then.

        Who would wait longer than `limit_s` is refused; `name` is what the metrics call it then.
        """
        self._name = name
        self._take_back = take_back
        self._limit_s = limit_s
        self._interval_s = 0.0
        """Between one that is given and the next, while somebody waits: its mean of late."""
        self._given = 0
        self._moved_at = 0.0
        """When the last was given, or when the first came to an empty line, if that was later."""
        self._waiting: dict[asyncio.Future[Given], float] = {}
        """Since when each of them has waited."""

    def __len__(self) -> int:
        return len(self._waiting)

    def check(self) -> None:
        """Raises Overloaded if who comes now would wait too long."""
        if not self._waiting:
            return
        first_waits_s = time.monotonic() - next(iter(self._waiting.values()))
        if max(first_waits_s, len(self._waiting) * self._interval_s) > self._limit_s:
            REQUESTS_SHED.labels(self._name).inc()
            raise Overloaded

    async def wait(self) -> Given:
        """What is given. Raises Overloaded if that would take too long."""
        self.check()
        now = time.monotonic()
        if not self._waiting:
            self._moved_at = now
        place: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        self._waiting[place] = now
        try:
            return await place
        except asyncio.CancelledError:
            if self._waiting.pop(place, None) is None:
                self._take_back(place.result())
            raise

    def give(self, given: Given) -> bool:
        """False if nobody waits."""
        for place in self._waiting:
            if not place.done():
                del self._waiting[place]
                self._note_interval()
                place.set_result(given)
                return True
        return False

    def _note_interval(self) -> None:
        now = time.monotonic()
        # One long wait must not make all who follow look as slow.
        interval_s = min(now - self._moved_at, self._limit_s)
        self._given += 1
        self._interval_s += max(SMOOTHING, 1 / self._given) * (interval_s - self._interval_s)
        self._moved_at = now
