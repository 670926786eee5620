"""Natural batching: while one statement is in flight, requests of the same kind queue for the next.

An idle server sends at once, so batching adds no delay; a busy one shares each round trip among
all waiting callers. Each caller gets its own result or its own error.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Generic, TypeVar

from service.database.connect import DATABASE_AWAY
from service.load.owner import OWNER
from service.load.wait_queue import MOST_WAITING, Entry, WaitQueue

RUN_TIMEOUT_S = 15.0
"""Bounds a call to a frozen database, so that its lane is released."""
ALONE_LIMIT_S = 5.0
"""Items of one `alone` key delay no other items, so they may wait longer than `limit_s`."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Calls `run` with up to `max_batch` items at a time, fair between owners (see WaitQueue).

    `run` returns one result per item, in the order of the items; a result that is an exception
    is raised at its caller. At most `lanes` calls are in flight. Only one item of each `alone` key
    is in flight at a time; the later items wait in a queue of the key.
    The AdmissionRule refuses new items by `limit_s`; at most `most` items of one owner wait.
    A second call begins only if the first has taken `next_lane_after_s`: fuller batches cost less.
    If `halve_from` items or more wait, a call takes half of them: callers that get their responses
    together send their next requests together, and process and database would alternate.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_batch: int = 200,
        most: int = MOST_WAITING,
        lanes: int = 2,
        alone: Callable[[Item], Hashable] | None = None,
        limit_s: float = float("inf"),
        next_lane_after_s: float = 0.0,
        halve_from: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._lanes = lanes
        self._alone = alone
        self._next_lane_after_s = next_lane_after_s
        self._halve_from = halve_from or float("inf")
        self._called_at = 0.0
        self._clock = clock
        self._waiting: WaitQueue[Item, Result] = WaitQueue(
            "queue", limit_s=limit_s, most=most, clock=clock
        )
        self._make_key_queue: Callable[[], WaitQueue[Item, Result]] = partial(
            WaitQueue, "key", limit_s=max(limit_s, ALONE_LIMIT_S), most=most, clock=clock
        )
        self._key_queues: dict[Hashable, WaitQueue[Item, Result] | None] = {}
        """The queue of later items, by the `alone` key of an item that waits or is in flight."""
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Result:
        """Return the item's result. Raises Unavailable if the wait would be too long."""
        alone = self._alone
        future = self._waiting.join(item) if alone is None else self._join(item, alone(item))
        if self._waiting.count and self._has_free_lane():
            self._in_flight += 1
            task = asyncio.create_task(self._run_batches())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    def _has_free_lane(self) -> bool:
        if not self._in_flight:
            return True
        waits_s = self._clock() - self._called_at if self._next_lane_after_s else 0.0
        return self._in_flight < self._lanes and waits_s >= self._next_lane_after_s

    def _join(self, item: Item, key: Hashable) -> asyncio.Future[Result]:
        if key not in self._key_queues:
            future = self._waiting.join(item)
            self._key_queues[key] = None
            return future
        queue = self._key_queues[key]
        if queue is None:
            queue = self._key_queues[key] = self._make_key_queue()
        return queue.join(item)

    async def _run_batches(self) -> None:
        OWNER.set(None)  # a batch serves many owners, so its wait for a connection has no owner
        try:
            while count := self._waiting.count:
                if count >= self._halve_from:
                    count = (count + 1) // 2
                entries = self._waiting.take(min(count, self._max_batch))
                try:
                    # Items whose caller gave up while waiting are skipped.
                    waiting = [entry for entry in entries if not entry[1].done()]
                    if waiting:
                        await self._run_batch(waiting)
                finally:
                    self._admit_next(entries)
        finally:
            # In the same step as the last check of the queue: a later item starts a new task.
            self._in_flight -= 1

    def _admit_next(self, entries: list[Entry[Item, Result]]) -> None:
        """Move the next item of each key of the entries to the main queue."""
        if self._alone is None:
            return
        for item, _, _ in entries:
            key = self._alone(item)
            queue = self._key_queues[key]
            if queue is not None and queue.count:
                self._waiting.put(*queue.take())
            else:
                del self._key_queues[key]

    async def _run_batch(self, entries: list[Entry[Item, Result]]) -> None:
        self._called_at = self._clock()
        try:
            async with asyncio.timeout(RUN_TIMEOUT_S):
                results = await self._run([item for item, _, _ in entries])
        except DATABASE_AWAY as error:  # outcome unknown: never sent a second time
            results = [error] * len(entries)
        except Exception as error:  # noqa: BLE001  # raised at the caller of the item
            if len(entries) > 1:  # nothing was written: halve until the faulty item is alone
                middle = len(entries) // 2
                await self._run_batch(entries[:middle])
                await self._run_batch(entries[middle:])
                return
            results = [error]
        for (_, future, _), result in zip(entries, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
