"""A queue that is fair between owners and refuses newcomers whose wait would be too long."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeAlias, TypeVar

from service.errors import Overloaded, Unavailable
from service.load.admission import STALLED_S, AdmissionRule
from service.load.owner import OWNER
from service.telemetry.metrics import REQUESTS_SHED

MOST_WAITING = 5_000
Item = TypeVar("Item")
Given = TypeVar("Given")
Entry: TypeAlias = tuple[Item, asyncio.Future[Given], Hashable]
"""The item of a waiter, the future that the waiter waits for, and its owner."""
STALLED = (
    f"No request of this kind has been completed for {STALLED_S:g} seconds; try again shortly."
)


class WaitQueue(Generic[Item, Given]):
    """A line of waiters for each owner; the lines take turns, each in order of arrival.

    The number of waiters ahead of a newcomer is taken as the length of its owner's line times the
    number of lines, but at most the length of the queue. So an owner that floods is refused because
    of its own long line, and the first waiter of any other owner is served after one turn of each
    line. Every step is O(1).
    """

    def __init__(
        self,
        name: str,
        *,
        limit_s: float = float("inf"),
        most: int = MOST_WAITING,
        take_back: Callable[[Given], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` labels the refusals in the metrics; `most` is the limit of waiters of one owner.

        `take_back` receives the value that was given to a waiter which was cancelled meanwhile.
        """
        self._name = name
        self._most = most
        self._take_back = take_back
        self.rule = AdmissionRule(limit_s, clock)
        self._lines: dict[Hashable, deque[Entry[Item, Given]]] = {}
        self._turns: deque[tuple[Hashable, deque[Entry[Item, Given]]]] = deque()
        """The lines in the order of their turns; a line may be empty only if it is the only one."""
        self.count = 0
        """The number of waiters, with those that gave up and have not been removed yet."""
        self._watch: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self.count

    def check(self) -> None:
        """Raise Overloaded if a newcomer of the current owner would be refused."""
        if self.count:
            self._check(self._lines.get(OWNER.get()))

    def _check(self, line: deque[Entry[Item, Given]] | None) -> None:
        own = len(line) if line else 0
        ahead = min(self.count, own * len(self._turns))
        if own >= self._most or not self.rule.admits(ahead):
            REQUESTS_SHED.labels(self._name).inc()
            raise Overloaded

    def join(self, item: Item) -> asyncio.Future[Given]:
        """Add an item at the end of the current owner's line. Raises Overloaded."""
        owner = OWNER.get()
        line = self._lines.get(owner)
        if self.count:
            self._check(line)
        future: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        if line is not None and self.count:  # as `put` would
            line.append((item, future, owner))
            self.count += 1
        else:
            self.put((item, future, owner))
        return future

    def put(self, entry: Entry[Item, Given]) -> None:
        """Add an entry that must not be refused."""
        line = self._lines.get(entry[2])
        if not self.count:
            self.rule.begin()
            if line is None:  # there may be an empty line of another owner
                self._lines.clear()
                self._turns.clear()
            if self._watch is None and self.rule.has_limit:
                self._watch = entry[1].get_loop().call_later(STALLED_S, self._look)
        if line is None:
            line = self._lines[entry[2]] = deque()
            self._turns.append((entry[2], line))
        line.append(entry)
        self.count += 1

    def take(self, count: int = 1) -> list[Entry[Item, Given]]:
        """Remove the next entries, at most `count`; the waiters of some may have given up."""
        turns = self._turns
        count = min(count, self.count)
        entries: list[Entry[Item, Given]] = []
        while len(turns) > 1 and len(entries) < count:
            owner, line = turns[0]
            entries.append(line.popleft())
            turns.rotate(-1)
            if not line:
                del self._lines[owner]
                turns.pop()
        if len(entries) < count:  # the last line stays when it is empty: it is likely to be needed
            line = turns[0][1]
            entries += [line.popleft() for _ in range(count - len(entries))]
        if count:
            self.count -= count
            self.rule.grant(count)
        return entries

    async def wait(self: "WaitQueue[None, Given]") -> Given:
        """Wait for a value from `give`. Raises Unavailable."""
        future = self.join(None)
        try:
            return await future
        except asyncio.CancelledError:
            was_given = not future.cancelled() and future.exception() is None
            if was_given and self._take_back is not None:
                self._take_back(future.result())
            raise

    def give(self, given: Given) -> bool:
        """Give a value to the next waiter, which owns it at once; False if there is no waiter."""
        while self.count:
            ((_, future, _),) = self.take()
            if not future.done():
                future.set_result(given)
                return True
        return False

    def _look(self) -> None:
        """Refuse all waiters if the queue does not move any more; look again later."""
        self._watch = None
        if not self.count:
            return
        if self.rule.is_stalled():
            for _, line in self._turns:
                for _, future, _ in line:
                    if not future.done():
                        future.set_exception(Unavailable(STALLED))
                        future.exception()  # mark it as retrieved: the waiter may be gone
        self._watch = asyncio.get_running_loop().call_later(STALLED_S / 3, self._look)
