"""The order in which waiting connections are closed at the limit of connections (pure)."""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median_low
from typing import Protocol, TypeAlias


class Member(Protocol):
    """What the table of connections (connections.py) needs of one; see HttpProtocol."""

    active_at: float
    """When the last response ended or the current request began, in the loop's time."""
    counted_bytes: int
    """The last `held_bytes` that the table has counted. Only the table changes it."""

    @property
    def owner(self) -> Hashable:
        """The caller in whose share the connection is counted."""

    @property
    def address(self) -> Hashable:
        """The client's address or IPv6 network."""

    @property
    def is_waiting(self) -> bool: ...
    @property
    def held_bytes(self) -> int: ...
    def check_timeouts(self, now: float) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


Queue: TypeAlias = tuple[int, list[Member]]
"""The number of a caller's connections, and those that wait, the longest inactive first."""


@dataclass(frozen=True)
class CommonSizes:
    """The median of a caller's connection count, taken over connections, not over callers."""

    everywhere: int = 0
    by_address: Mapping[Hashable, int] = field(default_factory=dict)
    """The same for the connections from each address, and at least as much as `everywhere`."""

    def find(self, address: Hashable) -> int:
        """The size for a connection from this address, which may have no other yet."""
        return self.by_address.get(address, self.everywhere)


def find_common_sizes(by_owner: Mapping[Hashable, list[Member]]) -> CommonSizes:
    """Calculate the medians of all connections, and of those from each address."""
    sizes: defaultdict[Hashable, list[int]] = defaultdict(list)
    for members in by_owner.values():
        for member in members:
            sizes[member.address].append(len(members))
    everywhere = median_low(list(itertools.chain.from_iterable(sizes.values())) or [0])
    by_address = {address: max(everywhere, median_low(each)) for address, each in sizes.items()}
    return CommonSizes(everywhere, by_address)


def make_queues(by_owner: Mapping[Hashable, list[Member]]) -> list[Queue]:
    """The queue of each caller that has a waiting connection."""
    queues = [
        (len(members), sorted((m for m in members if m.is_waiting), key=_get_active_at))
        for members in by_owner.values()
    ]
    return [queue for queue in queues if queue[1]]


def order_by_size(queues: list[Queue]) -> Iterator[Member]:
    """Yield the waiting members in the order in which they are to be closed.

    The next member is of the caller with the most connections left; of equal callers, the member
    that has been inactive longest.
    """
    order = itertools.count()  # members cannot be compared
    heap = [
        (-size, waiting[0].active_at, next(order), iter(waiting[1:]), waiting[0])
        for size, waiting in queues
    ]
    heapq.heapify(heap)
    while heap:
        size, _, _, others, member = heap[0]
        yield member
        following = next(others, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (size + 1, following.active_at, next(order), others, following))


def _get_active_at(member: Member) -> float:
    return member.active_at
