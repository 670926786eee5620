"""Turns: so many at a time of each kind, the others wait in line, and too many are refused."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from service.errors import Unavailable


class Turns:
    """Hands out turns by key, `at_once` of each at a time, in order of arrival."""

    def __init__(self, at_once: int, most_waiting: int = 500) -> None:
        self._at_once = at_once
        self._most = at_once + most_waiting
        self._lines: dict[Hashable, tuple[asyncio.Semaphore, int]] = {}
        """Those who have or await a turn of a key; a key without any is forgotten."""

    @asynccontextmanager
    async def take(self, key: Hashable) -> AsyncIterator[None]:
        """Raises Unavailable if too many wait already."""
        turn, count = self._lines.get(key, (None, 0))
        if count >= self._most:
            raise Unavailable("Too many requests like this are waiting; try again shortly.")
        turn = turn or asyncio.Semaphore(self._at_once)
        self._lines[key] = turn, count + 1
        try:
            async with turn:
                yield
        finally:
            self._leave(key)

    def _leave(self, key: Hashable) -> None:
        turn, count = self._lines.pop(key)
        if count > 1:
            self._lines[key] = turn, count - 1

    def is_taken(self, key: Hashable) -> bool:
        """Whether anyone has or awaits a turn."""
        return key in self._lines
