"""At a limit the largest caller loses connections first, and newcomers are admitted."""

import asyncio

import pytest

from service.http.server import connections
from service.http.server.connections import MOST_REFUSED, ConnectionTable


class Holder:
    """A connection of the caller `owner` that occupies `held_bytes`."""

    is_waiting = True

    def __init__(
        self, owner: str = "", held_bytes: int = 0, active_at: float = 0.0, address: str = ""
    ) -> None:
        self.owner = owner
        self.address = address or owner
        self.held_bytes = held_bytes
        self.active_at = active_at
        self.counted_bytes = 0
        self.ended = ""

    def check_timeouts(self, now: float) -> None: ...

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


def fill(table: ConnectionTable, members: list[Holder]) -> list[bool]:
    loop = asyncio.get_running_loop()
    return [table.add(member, loop) for member in members]


def empty(table: ConnectionTable) -> None:
    for member in (*table._members, *table._refused):
        table.discard(member)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> ConnectionTable:
    monkeypatch.setattr(connections, "HELD_LIMIT_BYTES", 1000)
    return ConnectionTable(100, 1, "/docs")


async def test_the_largest_connection_of_the_caller_with_the_most_memory_is_aborted(
    small: ConnectionTable,
) -> None:
    greedy = [Holder("greedy", held_bytes) for held_bytes in (300, 150, 250)]
    modest = Holder("modest", 290)
    fill(small, [*greedy, modest])
    for each in (*greedy, modest):
        small.update_held(each)
    assert not any(each.ended for each in (*greedy, modest))
    small.update_held(greedy[1])
    greedy[1].held_bytes = 200
    small.update_held(greedy[1])
    assert [each.ended for each in (*greedy, modest)] == ["aborted", "", "", ""]
    empty(small)


async def test_released_memory_does_not_count(small: ConnectionTable) -> None:
    first, second, third = holders = [Holder(str(n), 600) for n in range(3)]
    fill(small, holders)
    small.update_held(first)
    first.held_bytes = 100
    small.update_held(first)
    small.update_held(second)
    small.discard(second)
    small.update_held(third)
    assert not any(each.ended for each in holders)
    empty(small)


async def test_the_largest_caller_loses_its_longest_inactive_connections_first() -> None:
    table = ConnectionTable(20, 1, "/docs")
    honest = [Holder("honest", active_at=0.0) for _ in range(3)]
    crowd = [Holder("crowd", active_at=5.0 + n) for n in range(16)]
    crowd[0].is_waiting = False
    crowd[1].held_bytes = 70_000
    assert all(fill(table, [*honest, *crowd]))
    assert all(fill(table, [Holder(f"newcomer {n}", active_at=99.0) for n in range(10)]))
    assert not any(each.ended for each in honest)
    assert [each.ended for each in crowd[:4]] == ["", "aborted", "closed", "closed"]
    assert sum(bool(each.ended) for each in crowd) == 10
    empty(table)


async def test_the_longest_inactive_connection_of_equal_callers_is_closed() -> None:
    table = ConnectionTable(20, 1, "/docs")
    members = [Holder(str(n), active_at=float(n)) for n in range(19)]
    assert all(fill(table, [*members, Holder("newcomer", active_at=99.0)]))
    assert [n for n, member in enumerate(members) if member.ended] == [0]
    empty(table)


async def test_a_caller_as_small_as_the_newcomer_keeps_a_connection_that_was_just_active() -> None:
    table = ConnectionTable(20, 1, "/docs")
    now = asyncio.get_running_loop().time()
    quiet = Holder("quiet", active_at=now)
    crowd = [Holder("key", active_at=now) for _ in range(18)]
    for member in crowd:
        member.is_waiting = False
    assert fill(table, [quiet, *crowd, Holder("address of the key")]) == [True] * 20
    assert not quiet.ended
    empty(table)


async def test_a_caller_with_requests_in_progress_displaces_no_other_caller() -> None:
    table = ConnectionTable(20, 1, "/docs")
    quiet = Holder("quiet")
    crowd = [Holder("crowd") for _ in range(30)]
    for member in crowd:
        member.is_waiting = False
    assert fill(table, [quiet, *crowd]) == [True] * 19 + [False] * 12
    assert not any(member.ended for member in (quiet, *crowd))
    assert fill(table, [Holder("newcomer")]) == [True]
    empty(table)


async def test_newcomers_get_reserved_connections_while_all_requests_are_in_progress() -> None:
    table = ConnectionTable(100, 1, "/docs")
    crowd = [Holder("crowd") for _ in range(120)]
    for member in crowd:
        member.is_waiting = False
    assert fill(table, crowd) == [True] * 95 + [False] * 25
    newcomers = [Holder(str(n)) for n in range(6)]
    for member in newcomers:
        member.is_waiting = False
    assert fill(table, newcomers) == [True] * 5 + [False]
    assert not any(member.ended for member in crowd)
    assert len(table) == 100
    empty(table)


async def test_few_refused_connections_are_open_at_once() -> None:
    table = ConnectionTable(20, 1, "/docs")
    crowd = [Holder("crowd") for _ in range(19 + MOST_REFUSED + 10)]
    for member in crowd:
        member.is_waiting = False
    assert sum(fill(table, crowd)) == 19
    assert [member.ended for member in crowd[19:]] == ["aborted"] * 10 + [""] * MOST_REFUSED
    empty(table)


async def test_connections_of_a_flood_that_count_for_its_key_still_count_for_its_address() -> None:
    table = ConnectionTable(100, 1, "/docs")
    flood = [Holder("10.0.0.1") for _ in range(95)]
    for member in flood:
        member.is_waiting = False
    assert all(fill(table, flood))
    for member in flood:
        member.owner = "key"
    late = [Holder("10.0.0.1") for _ in range(10)]
    for member in late:
        member.is_waiting = False
    assert fill(table, late) == [False] * 10
    assert fill(table, [Holder("10.0.0.2")]) == [True]
    empty(table)
