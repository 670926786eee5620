"""Turns: so many at a time of each kind, the others wait in line, and too many are refused."""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from functools import partial

from service.errors import Unavailable
from service.line import Line


class Turns:
    """Hands out turns by key, `at_once` of each at a time, in order of arrival."""

    def __init__(
        self, at_once: int, most_waiting: int = 500, limit_s: float = float("inf")
    ) -> None:
        """Who would wait longer than `limit_s` is refused."""
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._limit_s = limit_s
        self._kinds: dict[Hashable, _Kind] = {}
        """A key that nobody has or awaits a turn of is forgotten."""

    @asynccontextmanager
    async def take(self, key: Hashable) -> AsyncIterator[None]:
        """Raises Unavailable if too many wait already, or for too long."""
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(partial(self._end, key), self._limit_s)
        if kind.at_work < self._at_once:
            kind.at_work += 1
        elif len(kind.line) >= self._most_waiting:
            raise Unavailable("Too many requests like this are waiting; try again shortly.")
        else:
            await kind.line.wait()
        try:
            yield
        finally:
            self._end(key)

    def _end(self, key: Hashable, _: None = None) -> None:
        kind = self._kinds[key]
        if not kind.line.give(None):
            kind.at_work -= 1
            if not kind.at_work:
                del self._kinds[key]

    def is_taken(self, key: Hashable) -> bool:
        """Whether anyone has or awaits a turn."""
        return key in self._kinds


class _Kind:
    """Who is at work with one key, and who waits."""

    __slots__ = ("at_work", "line")

    def __init__(self, end: partial[None], limit_s: float) -> None:
        self.at_work = 0
        self.line: Line[None] = Line("turn", end, limit_s)
