"""Connections that wait for their next request, by origin: to open one costs ten requests.

The last one given back is the first one taken, so that few stay warm and the rest can go.
"""

import asyncio
import resource
import time
from collections import deque

from workers.delivery.egress import Dialer, DialTimes, GuardedResolver
from workers.delivery.places import Origin
from workers.delivery.wire import Wire

MAX_IDLE_S = 60.0
MAX_IDLE = 2000
"""Beyond that the origin that was used the longest ago gives one up. With 300 endpoints and a bound
of 500 every fifth delivery had to open its connection."""
FILES, OTHER_FILES = 4096, 600
"""Open files that we ask for, and those that are no idle connections: in use, the database's."""
SWEEP_S = 10.0


def make_room() -> int:
    """How many connections may be idle, by how many files this process may have open.

    Raises that limit towards FILES, as far as the system lets us.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_IDLE
    if soft < FILES:
        soft = FILES if hard == resource.RLIM_INFINITY else max(soft, min(FILES, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(min(soft - OTHER_FILES, MAX_IDLE), 0)


class Connections:
    """All connections of one dispatcher."""

    def __init__(self, *, private: bool, resolver: GuardedResolver | None = None) -> None:
        self._dialer = Dialer(private=private, resolver=resolver)
        self._idle: dict[Origin, deque[tuple[float, Wire]]] = {}
        self._count = 0
        self._max_idle = make_room()
        self._sweeping: asyncio.TimerHandle | None = None

    def take(self, origin: Origin) -> Wire | None:
        """One that was open a moment ago."""
        waiting = self._idle.get(origin)
        oldest = time.monotonic() - MAX_IDLE_S
        while waiting:
            since, wire = waiting.pop()
            self._count -= 1
            if wire.is_open and since > oldest:
                return wire
            wire.abort()
        return None

    async def dial(self, origin: Origin, times: DialTimes) -> Wire:
        """A new one. Raises what Dialer.dial raises."""
        return await self._dialer.dial(origin, times)

    def give_back(self, wire: Wire) -> None:
        """After an exchange, however it ended."""
        if not wire.is_open:
            return
        waiting = self._idle.pop(wire.origin, None) or deque()
        waiting.append((time.monotonic(), wire))
        self._idle[wire.origin] = waiting  # behind all others
        self._count += 1
        while self._count > self._max_idle:
            self._drop_oldest(next(iter(self._idle)))
        if self._sweeping is None:
            self._sweep()

    async def close(self) -> None:
        """Ends those that wait; those in use end with their exchange."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for waiting in self._idle.values():
            for _, wire in waiting:
                wire.abort()
        self._idle.clear()
        self._dialer.close()
        await asyncio.sleep(0)  # so that they are closed when the loop ends

    def _drop_oldest(self, origin: Origin) -> None:
        waiting = self._idle[origin]
        if waiting:
            waiting.popleft()[1].abort()
            self._count -= 1
        if not waiting:
            del self._idle[origin]

    def _sweep(self) -> None:
        oldest = time.monotonic() - MAX_IDLE_S
        for origin, waiting in list(self._idle.items()):
            while waiting and (waiting[0][0] <= oldest or not waiting[0][1].is_open):
                waiting.popleft()[1].abort()
                self._count -= 1
            if not waiting:
                del self._idle[origin]
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_S, self._sweep) if self._idle else None
