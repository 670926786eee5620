"""Turns: in order, so many at a time, by key."""

import asyncio

import pytest

from service.errors import Unavailable
from service.turns import Turns


async def test_so_many_have_a_turn_at_a_time_and_in_order_of_arrival() -> None:
    turns = Turns(at_once=2)
    began: list[int] = []
    gates = [asyncio.Event() for _ in range(4)]

    async def work(number: int) -> None:
        async with turns.take("a"):
            began.append(number)
            await gates[number].wait()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(work(number))
        await asyncio.sleep(0)  # every task runs once
        async with turns.take("b"):  # another key waits for none of them
            assert began == [0, 1]
        for gate in gates:
            gate.set()
    assert began == [0, 1, 2, 3]
    assert not turns.is_taken("a")


async def test_too_many_who_wait_are_refused_and_who_gives_up_leaves_no_trace() -> None:
    turns = Turns(at_once=1, most_waiting=1)
    async with turns.take("a"):
        waiting = asyncio.create_task(_take(turns))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await _take(turns)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await _take(turns)
    assert not turns.is_taken("a")


async def test_who_comes_behind_one_that_has_waited_too_long_is_refused() -> None:
    turns = Turns(at_once=1, limit_s=0.05)
    async with turns.take("a"):
        waiting = asyncio.create_task(_take(turns))
        await asyncio.sleep(0.01)
        young = asyncio.create_task(_take(turns))
        await asyncio.sleep(0.1)
        with pytest.raises(Unavailable):
            await _take(turns)
        await _take_other(turns)
    await asyncio.gather(waiting, young)
    await _take(turns)
    assert not turns.is_taken("a")


async def _take_other(turns: Turns) -> None:
    async with turns.take("b"):
        pass


async def _take(turns: Turns) -> None:
    async with turns.take("a"):
        pass
