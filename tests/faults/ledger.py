"""A receiver's own record of the events that it accepted, independent of our tables."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

import msgspec
from aiohttp import web

from tests.loopback.receiver import Received

Seen = tuple[str, int]
"""The id of a lead and the version of one of its events."""


class Outcome(msgspec.Struct):
    """The outcome of a run, for the table that `make faults` prints."""

    title: str
    faults: int
    events: int
    lost: int
    inversions: int
    duplicates: int
    bound: int
    """The permitted number of duplicates: the deliveries in flight at each fault, and one flush."""
    seconds: float = 0.0
    notes: str = ""

    def check(self) -> None:
        assert self.events > 0
        assert (self.lost, self.inversions) == (0, 0), self
        assert self.duplicates <= self.bound, self


def read_event(received: Received) -> Seen:
    """The lead and version of a delivered event of the log."""
    data = received.event["data"]
    return data["lead"]["id"], data["version"]


def read_id(received: Received) -> Seen:
    """The lead and version of a made-up event with the id evt_LEAD_VERSION."""
    _, lead, version = received.id.split("_")
    return lead, int(version)


class Ledger:
    """Responds after a random delay, at random with 500; records what it accepts with 200."""

    def __init__(
        self,
        delay_s: float = 0.02,
        refuse: float = 0.0,
        read: Callable[[Received], Seen] = read_event,
    ) -> None:
        self.delay_s, self.refuse, self._read = delay_s, refuse, read
        self.accepted: list[Seen] = []
        self.times: list[float] = []
        self.open = 0
        self.opens: list[int] = []
        """The number of open requests at the arrival of each request, itself included."""

    async def answer(self, received: Received) -> web.Response:
        self.open += 1
        self.opens.append(self.open)
        try:
            await asyncio.sleep(random.random() * 2 * self.delay_s)
        finally:
            self.open -= 1
        if random.random() < self.refuse:
            return web.Response(status=500)
        self.accepted.append(self._read(received))
        self.times.append(time.monotonic())
        return web.Response()

    def count_since(self, seconds: float) -> int:
        """The number of events accepted in the last `seconds`."""
        return sum(at > time.monotonic() - seconds for at in self.times[-20_000:])

    def compare(self, title: str, faults: int, wanted: set[Seen], bound: int) -> Outcome:
        """Compares the accepted events with `wanted`, the lead and version of every event."""
        accepted = set(self.accepted)
        return Outcome(
            title=title,
            faults=faults,
            events=len(wanted),
            lost=len(wanted - accepted),
            inversions=count_inversions(self.accepted),
            duplicates=len(self.accepted) - len(accepted),
            bound=bound,
        )


def count_inversions(accepted: list[Seen]) -> int:
    """The number of events that first arrived after a later event of the same lead."""
    newest: Counter[str] = Counter()
    seen: set[Seen] = set()
    inversions = 0
    for lead, version in accepted:
        if (lead, version) not in seen and version < newest[lead]:
            inversions += 1
        seen.add((lead, version))
        newest[lead] = max(newest[lead], version)
    return inversions
