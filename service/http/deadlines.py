"""Gives up requests that take too long, all looked through a few times a second.

A timer for each request would be exact, and a twentieth of a GET (py-spy); nobody minds a quarter
second in fifteen.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LOOK_EVERY_S = 0.25


class Deadlines:
    """The tasks at work, and when each must have ended, in monotonic seconds."""

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[object], float] = {}
        self._given_up: set[asyncio.Task[object]] = set()

    def limit(self, seconds: float) -> "Limit":
        """Raises TimeoutError in the task that is in it for longer; may be nested."""
        return Limit(self._ends, self._given_up, seconds)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks until left."""
        watch = asyncio.create_task(self._look_forever())
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = time.monotonic()
            for task in [task for task, end in self._ends.items() if end < now]:
                del self._ends[task]
                self._given_up.add(task)
                task.cancel()


class Limit:
    """One task's time. Written out, for a generator would take twice as long."""

    __slots__ = ("_ends", "_given_up", "_outer", "_seconds", "_task")

    def __init__(
        self,
        ends: dict[asyncio.Task[object], float],
        given_up: set[asyncio.Task[object]],
        seconds: float,
    ) -> None:
        self._ends, self._given_up, self._seconds = ends, given_up, seconds

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can have a deadline")
        self._task = task
        self._outer = self._ends.get(task)
        own = time.monotonic() + self._seconds
        self._ends[task] = own if self._outer is None else min(own, self._outer)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        task = self._task
        if self._outer is None:
            self._ends.pop(task, None)
        else:
            self._ends[task] = self._outer
        if task in self._given_up:
            self._given_up.discard(task)
            task.uncancel()
            if isinstance(error, asyncio.CancelledError):
                raise TimeoutError from None
