"""Decides which requests a process accepts, and in which order: each caller has a share.

A process that receives more requests than it can serve falls behind in three places: its event loop
is late, more requests are in progress than it can finish in time, and its statements wait in
queues. OverloadDetector measures the first two, the WaitQueues measure the third.

A request is in progress only while the process does something for it: not while it waits for its
body, for a client that does not read, or for an event.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from service.load.callers import Caller
from service.load.overload_detector import OverloadDetector
from service.load.owner import OWNER, KnownKeys, find_network
from service.load.wait_queue import WaitQueue
from service.telemetry.logging import get_logger

LOG_EVERY_S = 1.0
SHARE = 32
"""The most requests of one caller that are in progress while there are other callers. Half as many
already keep a process busy. More would not finish any request sooner: they only make each turn of
the event loop longer, because a turn runs all of them."""
PERIOD_S = 1.0
"""A caller counts in the period of its last request and in the next one."""
UNIDENTIFIED_PER_PERIOD = 100
"""The limit of requests without a valid key from one address in a period: beyond it, their
responses are delayed."""
log = get_logger("load")


class LoadShedder:
    """Refuses requests while the process is overloaded, those of the largest callers first."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit_s`: how long a request may wait in total."""
        self.known_keys = KnownKeys()
        self.load = OverloadDetector(limit_s, clock)
        self._limit_s = limit_s
        self._clock = clock
        self._callers: dict[Hashable, Caller] = {}
        self._period = 0
        self._calling = self._called_before = 0
        """The number of callers in this period, and in the one before."""
        self._open = self._open_callers = 0
        self._refused = 0
        self._logged_at = 0.0

    @property
    def is_shared(self) -> bool:
        """Whether several callers sent requests in this period or the one before."""
        return self._calling > 1 or self._called_before > 1

    def identify(self, fields: Mapping[bytes, bytes], client: tuple[str, int] | None) -> Caller:
        """The caller of a new request, by its header fields and the client's address."""
        header = fields.get(b"authorization")
        name = None if header is None else self.known_keys.find(header)
        has_key = name is not None
        if name is None:
            name = find_network(client[0]) if client else ""
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = Caller(self, name, has_key=has_key)
        if has_key and caller.period != self._period:
            self._count_caller(caller)
        return caller

    def _count_caller(self, caller: Caller) -> None:
        caller.period = self._period
        caller.unidentified = 0
        self._calling += 1

    def refuses(self, caller: Caller) -> bool:
        """Whether to refuse a request of a caller.

        Only under overload, and only if the caller has at least the mean number of open requests.
        """
        if not self.load.is_overloaded:
            return False
        if not caller.open and self.is_shared:  # the other callers cause the load
            return False
        callers = self._open_callers + (not caller.open)
        return caller.open * callers >= self._open

    def request_started(self, caller: Caller) -> None:
        """Count a request as open and in progress."""
        # As _open_one and _begin_work, written out because every request runs this.
        self._open += 1
        if not caller.open:
            self._open_callers += 1
        caller.open += 1
        self.load.at_work += 1
        caller.working += 1

    def request_finished(self, caller: Caller, *, refused: bool = False) -> None:
        """End the count of a request after its response; a refusal is not counted as finished."""
        load = self.load
        if not refused:
            load.finished += 1
        load.at_work -= 1
        if caller.share_queue is None:
            caller.working -= 1
        else:
            self._leave_share(caller)
        self._open -= 1
        caller.open -= 1
        if not caller.open:
            self._open_callers -= 1

    async def wait_for_share(self, caller: Caller) -> None:
        """Let a started request wait while its caller has more than its share in progress.

        Raises Overloaded if the wait would be too long.
        """
        if caller.working <= SHARE or not self.is_shared:
            return
        if caller.share_queue is None:
            caller.share_queue = WaitQueue(
                "share", limit_s=self._limit_s, clock=self._clock,
                take_back=lambda _: self._leave_share(caller),
            )  # fmt: skip
        caller.working -= 1
        try:
            await caller.share_queue.wait()
        except BaseException:
            caller.working += 1
            raise

    @contextmanager
    def identifying(self, caller: Caller) -> Iterator[None]:
        """Count a request as open, but not in progress, while its key is looked up."""
        self._open_one(caller)
        try:
            yield
        finally:
            self._close_one(caller)

    def count_unidentified(self, address: Caller) -> bool:
        """Count a request without a valid key; True if its response must be delayed.

        An address counts as a caller only from here on: the first requests of a valid key, which
        are attributed to the address until the key is known, must not count as a second caller.
        """
        if address.period != self._period:
            self._count_caller(address)
        address.unidentified += 1
        is_flood = address.open > SHARE or address.unidentified > UNIDENTIFIED_PER_PERIOD
        return is_flood or self.load.is_overloaded

    @contextmanager
    def refusing(self, caller: Caller, *, started: bool) -> Iterator[None]:
        """Count a request as open, but not in progress, while its refusal is delayed."""
        self._refused += 1
        if started:
            self._end_work(caller)
        else:
            self._open_one(caller)
        try:
            yield
        finally:
            if started:
                self._begin_work(caller)
            else:
                self._close_one(caller)

    @asynccontextmanager
    async def waiting(self, caller: Caller, *, skips_share: bool) -> AsyncIterator[None]:
        """Count a started request as neither open nor in progress while it waits.

        It waits for an event or for its client.
        """
        self.load.finished += 1
        self._end_work(caller)
        self._close_one(caller)
        try:
            yield
        finally:
            self.request_started(caller)
        if not skips_share:
            await self.wait_for_share(caller)

    def _open_one(self, caller: Caller) -> None:
        self._open += 1
        self._open_callers += not caller.open
        caller.open += 1

    def _close_one(self, caller: Caller) -> None:
        self._open -= 1
        caller.open -= 1
        self._open_callers -= not caller.open

    def _begin_work(self, caller: Caller) -> None:
        self.load.at_work += 1
        caller.working += 1

    def _end_work(self, caller: Caller) -> None:
        self.load.at_work -= 1
        self._leave_share(caller)

    def _leave_share(self, caller: Caller) -> None:
        caller.working -= 1
        queue = caller.share_queue
        if queue is None:
            return
        while len(queue) and (caller.working < SHARE or not self.is_shared):
            caller.working += queue.give(None)

    def begin_period(self) -> None:
        """Forget callers without a request since the last period began."""
        self._callers = {
            name: caller
            for name, caller in self._callers.items()
            if caller.open or caller.working or caller.period == self._period
        }
        self._period += 1
        self._calling, self._called_before = 0, self._calling

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Measure the load and count periods while entered."""
        tasks = [
            asyncio.create_task(self._watch_forever()), asyncio.create_task(self._count_forever())
        ]  # fmt: skip
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch_forever(self) -> None:
        while True:
            lag_s = await self.load.sample()
            now = self._clock()
            if self._refused and now - self._logged_at >= LOG_EVERY_S:
                log.warning("requests.shed", count=self._refused, lag_ms=round(lag_s * 1000, 1))
                self._refused, self._logged_at = 0, now

    async def _count_forever(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            self.begin_period()


@asynccontextmanager
async def waiting(*, skips_share: bool = False) -> AsyncIterator[None]:
    """Mark the current request as waiting for an event or for its client, if there is a request.

    `skips_share`: the request does not wait for its caller's share afterwards, because its work is
    done or is limited elsewhere.
    """
    caller = OWNER.get()
    if isinstance(caller, Caller):
        async with caller.shedder.waiting(caller, skips_share=skips_share):
            yield
    else:
        yield
