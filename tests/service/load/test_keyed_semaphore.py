"""A semaphore per key: a limited number of holders, in order of arrival, and no state left."""

import asyncio

import pytest

from service.errors import Unavailable
from service.load.admission import STALLED_S
from service.load.keyed_semaphore import KEPT, KeyedSemaphore
from tests.service.load.simulation import Clock


async def test_a_limited_number_of_tasks_hold_a_key_in_order_of_arrival() -> None:
    semaphore = KeyedSemaphore(at_once=2)
    began: list[int] = []
    gates = [asyncio.Event() for _ in range(4)]

    async def work(number: int) -> None:
        async with semaphore.hold("a"):
            began.append(number)
            await gates[number].wait()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(work(number))
        await asyncio.sleep(0)  # every task runs once
        async with semaphore.hold("b"):  # another key waits for none of them
            assert began == [0, 1]
        for gate in gates:
            gate.set()
    assert began == [0, 1, 2, 3]
    assert not semaphore.is_held("a")


async def test_a_cancelled_waiter_leaves_no_state() -> None:
    semaphore = KeyedSemaphore(at_once=1)
    async with semaphore.hold("a"):
        waiting = asyncio.create_task(_hold(semaphore, "a"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await _hold(semaphore, "a")
    assert not semaphore.is_held("a")


async def test_a_waiter_that_is_cancelled_just_when_it_gets_the_key_releases_it() -> None:
    semaphore = KeyedSemaphore(at_once=1)
    async with semaphore.hold("a"):
        waiting = asyncio.create_task(_hold(semaphore, "a"))
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not semaphore.is_held("a")


async def test_a_newcomer_is_refused_by_a_stalled_key_and_not_by_another_key() -> None:
    clock = Clock()
    semaphore = KeyedSemaphore(at_once=1, limit_s=0.1, clock=clock)
    async with semaphore.hold("a"):
        waiting = asyncio.create_task(_hold(semaphore, "a"))
        await asyncio.sleep(0)
        clock.now += STALLED_S
        with pytest.raises(Unavailable):
            await _hold(semaphore, "a")
        await _hold(semaphore, "b")
    await waiting
    await _hold(semaphore, "a")
    assert not semaphore.is_held("a")


async def test_keys_without_holders_are_removed() -> None:
    semaphore = KeyedSemaphore(at_once=1)
    for key in range(10):
        await _hold(semaphore, str(key))
    assert not semaphore._semaphores
    clock = Clock()
    contended = KeyedSemaphore(at_once=1, limit_s=1, clock=clock)
    for key in range(2 * KEPT):
        async with contended.hold(str(key)):
            waiting = asyncio.create_task(_hold(contended, str(key)))
            await asyncio.sleep(0)
            clock.now += 1
        await waiting
    assert 1 <= len(contended._semaphores) <= KEPT


async def _hold(semaphore: KeyedSemaphore, key: str) -> None:
    async with semaphore.hold(key):
        pass
