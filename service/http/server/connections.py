"""All connections of a process: limits of their number and of the memory that they occupy.

At a limit, connections of the largest caller are closed first: of the caller with the most
connections, those that wait for their client or for an event; of the caller that occupies the most
memory, its largest connection. A caller is an API key or, until the key is known, an address.

The key of a new connection is not known yet. It closes no connection of a caller that is smaller
than those of most connections, or of most connections from its address: it probably belongs to one
of those too, and if not, it may use the reserve.

All timeouts are checked together a few times a second; a timer for each connection would have to be
set and cancelled around every request.
"""

import asyncio
import resource
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from itertools import islice

from service.http.server.eviction_order import (
    CommonSizes,
    Member,
    find_common_sizes,
    make_queues,
    order_by_size,
)
from service.telemetry.logging import get_logger
from service.telemetry.metrics import REQUESTS_SHED

CHECK_EVERY_S = 0.25
HELD_LIMIT_BYTES = 128 * 1024 * 1024
"""Memory for all clients of a process: requests that are incomplete or not started, and responses
that are not read yet. Enough for thirty of the longest responses."""
RELIEVED_PART = 16
"""One search for the largest callers frees one sixteenth of the limit."""
RESERVED_FILES = 200
"""Open files reserved for everything other than client connections."""
EVICTED_PART = 50
"""One search for waiting connections closes one fiftieth of all connections."""
NEWCOMERS_PART = 20
"""One twentieth of the connections is reserved for addresses with few connections."""
QUIET_S = 1.0
"""Another caller with as few connections as the newcomer loses one only if it is inactive so long.
The address of a flood looks like a newcomer until the keys of its last connections are known."""
MOST_REFUSED = 64
"""Connections beyond the limit that may be open at once until their 503 is sent."""
FEWEST_CONNECTIONS = 16
log = get_logger("http")


class ConnectionTable:
    """The connections of one process. It is made before the event loop runs.

    It must be picklable: it is passed to each process that uvicorn starts.
    """

    def __init__(self, max_connections: int, write_timeout_s: float, doc_url: str) -> None:
        self.max_connections = find_room(max_connections)
        self.write_timeout_s = write_timeout_s
        self.doc_url = doc_url
        self._reserved = max(1, self.max_connections // NEWCOMERS_PART)
        self._members: set[Member] = set()
        self._refused: dict[Member, None] = {}
        self._addresses: Counter[Hashable] = Counter()
        """The number of connections from each address."""
        self._sizes: Counter[Hashable] = Counter()
        """Each caller's connections at the last count, and those added since."""
        self._common_sizes = CommonSizes()
        self._largest_waiting = -1
        """The most connections of a caller that had a waiting one at the last count."""
        self._counted_until = 0.0
        """When the last count becomes too old."""
        self._held_bytes = 0
        self._is_checking = False

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Member, loop: asyncio.AbstractEventLoop) -> bool:
        """Add a connection. False: there are too many; send a 503 and close it."""
        has_room = self._has_room(member, loop)
        if has_room:
            self._members.add(member)
            self._addresses[member.address] += 1
        else:
            REQUESTS_SHED.labels("connections").inc()
            self._refused[member] = None
            if len(self._refused) > MOST_REFUSED:
                oldest = next(iter(self._refused))
                del self._refused[oldest]
                oldest.abort()
        if not self._is_checking:
            self._is_checking = True
            loop.call_later(CHECK_EVERY_S, self._check, loop.time, loop.call_later)
        return has_room

    def discard(self, member: Member) -> None:
        """Remove a connection."""
        self._refused.pop(member, None)
        if member not in self._members:
            return
        self._members.remove(member)
        self._addresses[member.address] -= 1
        if not self._addresses[member.address]:
            del self._addresses[member.address]
        self._held_bytes -= member.counted_bytes
        member.counted_bytes = 0

    def update_held(self, member: Member) -> None:
        """Count again what a connection occupies; above the limit, close the largest ones."""
        if member not in self._members:
            return
        held_bytes = member.held_bytes
        self._held_bytes += held_bytes - member.counted_bytes
        member.counted_bytes = held_bytes
        if self._held_bytes > HELD_LIMIT_BYTES:
            self._free_memory()

    def _has_room(self, member: Member, loop: asyncio.AbstractEventLoop) -> bool:
        shared = self.max_connections - self._reserved
        if len(self._members) < shared:
            return True
        now, owner = loop.time(), member.owner
        size = max(self._sizes[owner], self._common_sizes.find(member.address))
        if now >= self._counted_until or size <= self._largest_waiting:
            self._close_waiting(member, now)
            self._counted_until = now + CHECK_EVERY_S  # counting takes long
        if len(self._members) < shared:
            return True
        self._sizes[owner] += 1
        # By address: connections soon count for their key, so a flood's address would look small.
        is_newcomer = self._addresses[member.address] < max(1, self._reserved // 4)
        return is_newcomer and len(self._members) < self.max_connections

    def _close_waiting(self, newcomer: Member, now: float) -> None:
        """Close waiting connections of large callers, with at least as many as the newcomer."""
        by_owner: defaultdict[Hashable, list[Member]] = defaultdict(list)
        for member in self._members:
            by_owner[member.owner].append(member)
        self._sizes = Counter({owner: len(members) for owner, members in by_owner.items()})
        self._common_sizes = find_common_sizes(by_owner)
        queues = make_queues(by_owner)
        wanted = 1 + len(self._members) // EVICTED_PART
        self._largest_waiting = max((size for size, _ in queues), default=-1)
        least = self._common_sizes.find(newcomer.address)
        large = [queue for queue in queues if queue[0] >= least]
        closed: Counter[Hashable] = Counter()
        for member in islice(order_by_size(large), wanted):
            owner = member.owner
            lead = self._sizes[owner] - self._sizes[newcomer.owner]
            is_quiet = owner == newcomer.owner or now - member.active_at >= QUIET_S
            if lead < 0 or (lead <= 1 and not is_quiet):
                break
            self._sizes[owner] -= 1
            closed[owner] += 1
            self.discard(member)
            member.abort() if member.held_bytes else member.close()
        _log_closed(closed, "room")

    def _free_memory(self) -> None:
        holders: defaultdict[Hashable, list[Member]] = defaultdict(list)
        self._held_bytes = 0
        for member in self._members:
            if member.counted_bytes:
                member.counted_bytes = member.held_bytes
                self._held_bytes += member.counted_bytes
                holders[member.owner].append(member)
        sums = {owner: sum(map(_get_counted_bytes, held)) for owner, held in holders.items()}
        for held in holders.values():
            held.sort(key=_get_counted_bytes)
        enough = HELD_LIMIT_BYTES - HELD_LIMIT_BYTES // RELIEVED_PART
        closed: Counter[Hashable] = Counter()
        while self._held_bytes > enough and sums:
            owner = max(sums, key=sums.__getitem__)
            member = holders[owner].pop()
            sums[owner] -= member.counted_bytes
            if not holders[owner]:
                del sums[owner]
            closed[owner] += 1
            self.discard(member)
            member.abort()
        _log_closed(closed, "memory")

    def _check(self, now: Callable[[], float], call_later: Callable[..., object]) -> None:
        for member in (*self._members, *self._refused):
            member.check_timeouts(now())
        if self._members or self._refused:
            call_later(CHECK_EVERY_S, self._check, now, call_later)
        else:
            self._is_checking = False


def _log_closed(closed: Counter[Hashable], reason: str) -> None:
    if closed:
        [(owner, count)] = closed.most_common(1)
        facts = {"reason": reason, "most": str(owner), "of_these": count}
        log.warning("connections.closed", count=closed.total(), **facts)


def _get_counted_bytes(member: Member) -> int:
    return member.counted_bytes


def find_room(wanted: int) -> int:
    """The number of connections that the limit of open files allows, at most `wanted`."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(FEWEST_CONNECTIONS, soft - RESERVED_FILES))
