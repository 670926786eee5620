"""Gives up requests that take too long, all looked through a few times a second.

A timer for each request would be exact, and a twentieth of a GET (py-spy); nobody minds a quarter
second in fifteen.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

LOOK_EVERY_S = 0.25


class Deadlines:
    """The tasks at work, and when each must have ended, in monotonic seconds."""

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[object], float] = {}
        self._given_up: set[asyncio.Task[object]] = set()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Raises TimeoutError in the task that is in it for longer; may be nested."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can have a deadline")
        outer, own = self._ends.get(task), time.monotonic() + seconds
        self._ends[task] = own if outer is None else min(own, outer)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._given_up:
                raise
            self._given_up.discard(task)
            task.uncancel()
            raise TimeoutError from None
        finally:
            if outer is None:
                self._ends.pop(task, None)
            else:
                self._ends[task] = outer

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
