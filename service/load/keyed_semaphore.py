"""A semaphore for each key, whose waiters wait in a WaitQueue."""

import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial

from service.load.wait_queue import WaitQueue

KEPT = 256
"""If there are this many semaphores, a new key drops those that no task holds. Until then, a
semaphore with a recently contended queue is kept, because its measurements are needed when the key
is used again."""


class KeyedSemaphore:
    """Lets `at_once` tasks hold each key."""

    def __init__(
        self,
        at_once: int,
        limit_s: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit_s` is passed to the AdmissionRule."""
        self._at_once = at_once
        self._limit_s = limit_s
        self._clock = clock
        self._semaphores: dict[Hashable, _Semaphore] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        """Hold the key while entered. Raises Overloaded if the wait would be too long."""
        semaphore = self._semaphores.get(key) or self._add(key)
        if semaphore.held < self._at_once:
            semaphore.held += 1
        else:
            await semaphore.queue.wait()
        try:
            yield
        finally:
            self._release(key)

    def is_held(self, key: Hashable) -> bool:
        """Whether any task holds the key."""
        semaphore = self._semaphores.get(key)
        return semaphore is not None and semaphore.held > 0

    def _add(self, key: Hashable) -> "_Semaphore":
        if len(self._semaphores) >= KEPT:
            held = {key: each for key, each in self._semaphores.items() if each.held}
            self._semaphores = held
        queue: WaitQueue[None, None] = WaitQueue(
            "turn", limit_s=self._limit_s, take_back=partial(self._take_back, key),
            clock=self._clock,
        )  # fmt: skip
        semaphore = self._semaphores[key] = _Semaphore(queue)
        return semaphore

    def _take_back(self, key: Hashable, _: None) -> None:
        self._release(key)

    def _release(self, key: Hashable) -> None:
        semaphore = self._semaphores[key]
        if semaphore.queue.give(None):
            return
        semaphore.held -= 1
        if not semaphore.held and not semaphore.queue.rule.is_used:
            del self._semaphores[key]


class _Semaphore:
    __slots__ = ("held", "queue")

    def __init__(self, queue: WaitQueue[None, None]) -> None:
        self.held = 0
        self.queue = queue
