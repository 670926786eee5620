"""What a receiver accepted, noted by the receiver: it knows nothing of our tables."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

import msgspec
from aiohttp import web

from tests.receiver import Received

Seen = tuple[str, int]
"""A lead and the version of one of its events."""


class Outcome(msgspec.Struct):
    """What came of a run, for the table that `make faults` prints."""

    title: str
    faults: int
    events: int
    lost: int
    inversions: int
    duplicates: int
    bound: int
    """How many duplicates there may be: what was in flight at each fault, and one flush."""
    seconds: float = 0.0
    notes: str = ""

    def check(self) -> None:
        assert self.events > 0
        assert (self.lost, self.inversions) == (0, 0), self
        assert self.duplicates <= self.bound, self


def read_event(received: Received) -> Seen:
    """Of an event of the log."""
    data = received.event["data"]
    return data["lead"]["id"], data["version"]


def read_id(received: Received) -> Seen:
    """Of a made-up delivery, evt_LEAD_VERSION."""
    _, lead, version = received.id.split("_")
    return lead, int(version)


class Ledger:
    """Answers after a moment by chance, now and then with 500; notes what it answers with 200."""

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
        """How many requests were open when each came."""

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
        """How many it accepted in the last so many seconds."""
        return sum(at > time.monotonic() - seconds for at in self.times[-20_000:])

    def compare(self, title: str, faults: int, wanted: set[Seen], bound: int) -> Outcome:
        """`wanted`: every lead and version that there is an event of."""
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
    """How often a lead's event came for the first time after a later one of the same lead."""
    newest: Counter[str] = Counter()
    seen: set[Seen] = set()
    inversions = 0
    for lead, version in accepted:
        if (lead, version) not in seen and version < newest[lead]:
            inversions += 1
        seen.add((lead, version))
        newest[lead] = max(newest[lead], version)
    return inversions
