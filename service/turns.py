"""Turns: so many at a time of each kind, the others wait in line, and too many are refused."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from service.errors import TOO_MUCH, Unavailable
from service.metrics import REQUESTS_SHED
from service.shedding import is_too_late


class Turns:
    """Hands out turns by key, `at_once` of each at a time, in order of arrival."""

    def __init__(
        self, at_once: int, most_waiting: int = 500, late_after_s: float = float("inf")
    ) -> None:
        """When the first in a line has waited longer than `late_after_s`, it takes no more."""
        self._at_once = at_once
        self._most = at_once + most_waiting
        self._late_after_s = late_after_s
        self._lines: dict[Hashable, tuple[asyncio.Semaphore, int]] = {}
        """Those who have or await a turn of a key; a key without any is forgotten."""
        self._waiting: defaultdict[Hashable, dict[object, float]] = defaultdict(dict)
        """Since when each of them has waited, the first first."""

    @asynccontextmanager
    async def take(self, key: Hashable) -> AsyncIterator[None]:
        """Raises Unavailable if too many wait already, or for too long."""
        turn, count = self._lines.get(key, (None, 0))
        waiting, now, place = self._waiting[key], time.monotonic(), object()
        if waiting and is_too_late(next(iter(waiting.values())), now, self._late_after_s):
            REQUESTS_SHED.labels("turn").inc()
            raise Unavailable(TOO_MUCH)
        if count >= self._most:
            raise Unavailable("Too many requests like this are waiting; try again shortly.")
        turn = turn or asyncio.Semaphore(self._at_once)
        self._lines[key] = turn, count + 1
        waiting[place] = now
        try:
            async with turn:
                del waiting[place]
                yield
        finally:
            waiting.pop(place, None)
            self._leave(key)

    def _leave(self, key: Hashable) -> None:
        turn, count = self._lines.pop(key)
        if count > 1:
            self._lines[key] = turn, count - 1
        else:
            del self._waiting[key]

    def is_taken(self, key: Hashable) -> bool:
        """Whether anyone has or awaits a turn."""
        return key in self._lines
