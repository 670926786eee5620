"""Idle HTTP connections by origin, for reuse: opening a connection costs as much as ten requests.

The most recently used connection is reused first, so that few stay warm and the rest expire.
"""

import asyncio
import resource
import time
from collections import deque

from workers.delivery.egress import Dialer, DialTimes, GuardedResolver
from workers.delivery.http_connection import HttpConnection
from workers.delivery.parsed_url import Origin

MAX_IDLE_S = 60.0
MAX_IDLE = 2000
"""Beyond this number the least recently used origin loses a connection. With 300 endpoints and a
bound of 500, every fifth delivery had to open its connection."""
WANTED_FILES, RESERVED_FILES = 4096, 600
"""How many open files to ask the system for, and how many of them idle connections must spare."""
SWEEP_S = 10.0


def choose_max_idle() -> int:
    """How many connections may be idle, by the number of files that this process may open.

    Raises that limit to WANTED_FILES, as far as the system allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_IDLE
    if soft < WANTED_FILES:
        is_unbounded = hard == resource.RLIM_INFINITY
        soft = WANTED_FILES if is_unbounded else max(soft, min(WANTED_FILES, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(min(soft - RESERVED_FILES, MAX_IDLE), 0)


class Connections:
    """The connections of one dispatcher."""

    def __init__(self, *, private: bool, resolver: GuardedResolver | None = None) -> None:
        self._dialer = Dialer(private=private, resolver=resolver)
        self._idle: dict[Origin, deque[tuple[float, HttpConnection]]] = {}
        self._count = 0
        self._max_idle = choose_max_idle()
        self._sweeping: asyncio.TimerHandle | None = None

    def pop_idle(self, origin: Origin) -> HttpConnection | None:
        """Takes an idle connection that still seems open; None if there is none."""
        idle = self._idle.get(origin)
        oldest = time.monotonic() - MAX_IDLE_S
        while idle:
            since, connection = idle.pop()
            self._count -= 1
            if connection.is_open and since > oldest:
                return connection
            connection.abort()
        return None

    async def dial(self, origin: Origin, times: DialTimes) -> HttpConnection:
        """A new connection. Raises the errors of Dialer.dial."""
        return await self._dialer.dial(origin, times)

    def give_back(self, connection: HttpConnection) -> None:
        """Keeps a connection as idle after a request, if it can serve another request."""
        if not connection.is_open:
            return
        idle = self._idle.pop(connection.origin, None) or deque()
        idle.append((time.monotonic(), connection))
        self._idle[connection.origin] = idle  # last: the most recently used origin
        self._count += 1
        while self._count > self._max_idle:
            self._drop_oldest(next(iter(self._idle)))
        if self._sweeping is None:
            self._sweep()

    async def close(self) -> None:
        """Ends the idle connections; the others end with their request."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for idle in self._idle.values():
            for _, connection in idle:
                connection.abort()
        self._idle.clear()
        self._dialer.close()
        await asyncio.sleep(0)  # lets the transports close before the loop ends

    def _drop_oldest(self, origin: Origin) -> None:
        idle = self._idle[origin]
        if idle:
            idle.popleft()[1].abort()
            self._count -= 1
        if not idle:
            del self._idle[origin]

    def _sweep(self) -> None:
        oldest = time.monotonic() - MAX_IDLE_S
        for origin, idle in list(self._idle.items()):
            while idle and (idle[0][0] <= oldest or not idle[0][1].is_open):
                idle.popleft()[1].abort()
                self._count -= 1
            if not idle:
                del self._idle[origin]
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_S, self._sweep) if self._idle else None
