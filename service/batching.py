"""Natural batching: while one statement is in flight, requests of the same kind queue for the next.

An idle server sends at once, so batching adds no delay; a busy one shares each round trip among
all who wait. Each caller gets its own result or its own error.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeAlias, TypeVar

from service.db import DATABASE_AWAY
from service.errors import Overloaded, Unavailable
from service.metrics import REQUESTS_SHED
from service.shedding import is_too_late

RUN_TIMEOUT_S = 15.0
"""For a database that has frozen: a lane must come free again."""
Item = TypeVar("Item")
Result = TypeVar("Result")
Entry: TypeAlias = tuple[Item, asyncio.Future[Result], float]
"""And since when it has stood in its line."""


class Batcher(Generic[Item, Result]):
    """Calls `run` with up to `max_batch` items at a time, in order of arrival.

    `run` returns one result per item, in the order of the items; a result that is an exception
    is raised at its caller. At most `lanes` calls are in flight, at most `max_waiting` items wait.
    Of items with the same `alone` key only one is in flight; the next waits for its own turn.
    With `late_after_s` a line whose oldest item has stood longer takes no more items. With
    `next_lane_after_s` a call that takes no longer has its lane alone: fuller batches cost less.
    Where `halve_from` or more wait, a call takes half of them: a crowd that is answered all at once
    asks again all at once, and process and database would wait for each other in turn.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_batch: int = 200,
        max_waiting: int = 5_000,
        lanes: int = 2,
        alone: Callable[[Item], Hashable] | None = None,
        late_after_s: float = float("inf"),
        next_lane_after_s: float = 0.0,
        halve_from: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._lanes = lanes
        self._alone = alone
        self._late_after_s = late_after_s
        self._next_lane_after_s = next_lane_after_s
        self._halve_from = halve_from or max_waiting + 1
        self._called_at = 0.0
        self._clock = clock
        self._behind: dict[Hashable, deque[Entry[Item, Result]]] = {}
        self._count = 0
        self._waiting: deque[Entry[Item, Result]] = deque()
        self._in_flight = 0
        self._flights: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Result:
        """The item's own result; Unavailable if too many wait already, or for too long."""
        if self._count >= self._max_waiting:
            raise Unavailable("Too many requests are waiting for the database; try again shortly.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._enqueue(item, future)
        if self._waiting and self._has_free_lane():
            self._in_flight += 1
            flight = asyncio.create_task(self._fly())
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        return await future

    def _has_free_lane(self) -> bool:
        if not self._in_flight:
            return True
        waits_s = self._clock() - self._called_at if self._next_lane_after_s else 0.0
        return self._in_flight < self._lanes and waits_s >= self._next_lane_after_s

    def _enqueue(self, item: Item, future: asyncio.Future[Result]) -> None:
        now = self._clock()
        line = self._waiting
        key = None if self._alone is None else self._alone(item)
        if key is not None and key in self._behind:
            line = self._behind[key]
        if line and is_too_late(line[0][2], now, self._late_after_s):
            REQUESTS_SHED.labels("queue").inc()
            raise Overloaded
        if key is not None and line is self._waiting:
            self._behind[key] = deque()
        line.append((item, future, now))
        self._count += 1

    async def _fly(self) -> None:
        try:
            while self._waiting:
                count = len(self._waiting)
                if count >= self._halve_from:
                    count = (count + 1) // 2
                count = min(count, self._max_batch)
                entries = [self._waiting.popleft() for _ in range(count)]
                self._count -= count
                try:
                    # A caller that gave up before its turn is not served; one later on is.
                    waiting = [entry for entry in entries if not entry[1].done()]
                    if waiting:
                        await self._settle(waiting)
                finally:
                    self._let_next_in(entries)
        finally:
            # In the same step as the last look at the queue: what comes later needs a new flight.
            self._in_flight -= 1

    def _let_next_in(self, entries: list[Entry[Item, Result]]) -> None:
        """Those who stood behind the entries for their key take their turn."""
        if self._alone is None:
            return
        for item, _, _ in entries:
            key = self._alone(item)
            if behind := self._behind[key]:
                # It is young in this line: one lead with a crowd is no reason to refuse others.
                self._waiting.append((*behind.popleft()[:2], self._clock()))
            else:
                del self._behind[key]

    async def _settle(self, entries: list[Entry[Item, Result]]) -> None:
        self._called_at = self._clock()
        try:
            async with asyncio.timeout(RUN_TIMEOUT_S):
                results = await self._run([item for item, _, _ in entries])
        except DATABASE_AWAY as error:  # outcome unknown: never sent a second time
            results = [error] * len(entries)
        except Exception as error:  # noqa: BLE001  # handed to the one caller it belongs to
            if len(entries) > 1:  # nothing was written: halve until the culprit stands alone
                middle = len(entries) // 2
                await self._settle(entries[:middle])
                await self._settle(entries[middle:])
                return
            results = [error]
        for (_, future, _), result in zip(entries, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
