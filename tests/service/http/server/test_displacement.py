"""Which callers lose waiting connections to a newcomer whose key is not known yet."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.http.server.connections import CHECK_EVERY_S, ConnectionTable
from tests.service.http.server.test_connection_table import Holder, empty, fill

PROXY, FLOOD = "proxy", "10.0.0.1"


@pytest.fixture
async def table() -> AsyncIterator[ConnectionTable]:
    """A table for 100 connections, of which 5 are reserved."""
    table = ConnectionTable(100, 1, "/docs")
    yield table
    empty(table)


def open_many(
    table: ConnectionTable, count: int, address: str, key: str = "", *, busy: bool = False
) -> list[Holder]:
    """Opens connections, whose first requests then tell their key. Returns those that got in."""
    admitted = []
    for _ in range(count):
        member = Holder(address, active_at=asyncio.get_running_loop().time() - 10)
        if fill(table, [member]) == [True]:
            member.owner, member.is_waiting = key or address, not busy
            admitted.append(member)
    return admitted


def count_ended(members: list[Holder]) -> int:
    return sum(bool(member.ended) for member in members)


@pytest.mark.parametrize("victims_address", ["10.0.0.2", PROXY])
@pytest.mark.parametrize("floods_address", [FLOOD, PROXY])
async def test_a_flood_of_busy_connections_displaces_no_modest_caller(
    table: ConnectionTable, victims_address: str, floods_address: str
) -> None:
    victims = open_many(table, 20, victims_address, "modest")
    flood = open_many(table, 215, floods_address, "flood", busy=True)
    assert len(flood) == 75
    newcomers = open_many(table, 5, "10.0.0.3", "newcomer")
    assert newcomers  # in the reserve
    assert count_ended(victims + flood) == 0
    for member in flood[:10]:
        member.is_waiting = True
    await asyncio.sleep(CHECK_EVERY_S)  # until the next count
    late = open_many(table, 8, victims_address)
    assert len(late) == 8
    assert count_ended(victims + newcomers + late) == 0
    assert count_ended(flood) >= 8


@pytest.mark.parametrize("busy", [0, 5, 6, 40])
async def test_newcomers_behind_a_proxy_get_in_while_most_of_its_connections_are_idle(
    table: ConnectionTable, busy: int
) -> None:
    open_many(table, busy, PROXY, "busy", busy=True)
    idle = [open_many(table, 5, PROXY, f"key {n}") for n in range((95 - busy) // 5)]
    open_many(table, (95 - busy) % 5, PROXY, "last")
    assert len(table) == 95
    assert all(open_many(table, 1, PROXY, f"new {n}") for n in range(10))
    assert all(count_ended(members) <= 2 for members in idle)


async def test_a_flood_displaces_no_caller_behind_a_proxy_with_more_connections(
    table: ConnectionTable,
) -> None:
    behind = [open_many(table, 5, PROXY, f"key {n}") for n in range(12)]
    flood = open_many(table, 200, FLOOD, "flood", busy=True)
    assert len(flood) == 35
    assert not any(map(count_ended, behind))
    assert len(open_many(table, 3, PROXY, "newcomer")) == 3
    assert count_ended(flood) == 0
