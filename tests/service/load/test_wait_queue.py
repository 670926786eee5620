"""A queue that serves the longest waiter of each line first and loses nothing."""

import asyncio

import pytest

from service.errors import Unavailable
from service.load.admission import CROWD_LIMITS, STALLED_S
from service.load.owner import OWNER
from service.load.wait_queue import WaitQueue
from tests.service.load.simulation import Clock


def wait_as(queue: WaitQueue[None, int], owner: str | None = None) -> asyncio.Task[int]:
    token = OWNER.set(owner)
    try:
        return asyncio.create_task(queue.wait())
    finally:
        OWNER.reset(token)


async def settle_down() -> None:
    """Lets every task run until it waits."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_longest_waiter_is_served_first() -> None:
    queue: WaitQueue[None, int] = WaitQueue("test")
    waiting = [wait_as(queue) for _ in range(3)]
    await settle_down()
    assert len(queue) == 3
    assert all(queue.give(n) for n in range(3))
    assert not queue.give(3)
    assert await asyncio.gather(*waiting) == [0, 1, 2]


async def test_the_lines_of_owners_take_turns() -> None:
    queue: WaitQueue[str, int] = WaitQueue("test")
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1", "a5"):
        OWNER.set(name[0])
        queue.join(name)
    OWNER.set(None)
    taken = [item for _ in range(2) for item, _, _ in queue.take(4)]
    assert taken == ["a1", "b1", "c1", "a2", "b2", "a3", "a4", "a5"]
    assert len(queue) == 0
    assert not queue.take(4)


async def test_a_cancelled_waiter_is_skipped_and_its_item_is_taken_back() -> None:
    back: list[int] = []
    queue: WaitQueue[None, int] = WaitQueue("test", take_back=back.append)
    early, late, last = [wait_as(queue) for _ in range(3)]
    await settle_down()
    early.cancel()
    assert queue.give(1)  # `late` gets it: `early` is cancelled
    late.cancel()
    assert queue.give(2)
    found = await asyncio.gather(early, late, last, return_exceptions=True)
    assert [type(each) for each in found[:2]] == [asyncio.CancelledError, asyncio.CancelledError]
    assert found[2] == 2
    assert back == [1]
    assert len(queue) == 0


async def test_a_newcomer_is_refused_by_the_recent_speed_of_the_queue() -> None:
    clock = Clock()
    queue: WaitQueue[None, int] = WaitQueue("test", limit_s=0.3, clock=clock)
    waiting = [wait_as(queue)]
    for n in range(400):  # every 50 ms for 20 s, longer than a first crowd may last
        waiting.append(wait_as(queue))
        await settle_down()
        clock.now += 0.05
        queue.give(n)
    assert CROWD_LIMITS * 0.3 < 400 * 0.05
    behind = [wait_as(queue) for _ in range(15)]
    await settle_down()
    refused = [task for task in behind if task.done()]
    assert len(refused) == 9  # six waiters need 0.3 s: one from the loop and five of these
    assert all(isinstance(task.exception(), Unavailable) for task in refused)
    other = wait_as(queue, "other")
    await settle_down()
    assert not other.done()
    assert queue.give(0)
    assert queue.give(1)
    assert await other == 1
    for task in (*waiting, *behind):
        task.cancel()
    await asyncio.gather(*waiting, *behind, return_exceptions=True)


async def test_a_stalled_queue_accepts_newcomers_as_soon_as_it_moves() -> None:
    clock = Clock()
    queue: WaitQueue[None, int] = WaitQueue("test", limit_s=0.2, clock=clock)
    stuck = [wait_as(queue) for _ in range(2)]
    await settle_down()
    queue.give(0)
    clock.now += STALLED_S
    with pytest.raises(Unavailable):
        await wait_as(queue)
    queue.give(1)
    await asyncio.gather(*stuck)
    for n in range(80):  # one at a time: the queue is empty in between
        one = wait_as(queue)
        await settle_down()
        clock.now += 0.001
        queue.give(n)
        assert await one == n
    crowd = [wait_as(queue) for _ in range(25)]
    await settle_down()
    assert not [task for task in crowd if task.done()]
    for n in range(25):
        queue.give(n)
    assert await asyncio.gather(*crowd) == list(range(25))


async def test_the_waiters_of_a_stalled_queue_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.load.wait_queue.STALLED_S", 0.05)
    clock = Clock()
    queue: WaitQueue[None, int] = WaitQueue("test", limit_s=1, clock=clock)
    waiting = [wait_as(queue, owner) for owner in "ab"]
    await settle_down()
    clock.now += STALLED_S + 1
    async with asyncio.timeout(10):
        found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in found] == [Unavailable, Unavailable]
    assert not queue.give(1)


async def test_a_newcomer_is_refused_by_a_full_line_and_not_by_the_line_of_another_owner() -> None:
    queue: WaitQueue[None, int] = WaitQueue("test", most=2)
    waiting = [wait_as(queue) for _ in range(2)]
    await settle_down()
    with pytest.raises(Unavailable) as refused:
        await wait_as(queue)
    assert int(refused.value.headers["Retry-After"]) >= 1
    waiting.append(wait_as(queue, "other"))
    await settle_down()
    for n in range(3):
        assert queue.give(n)
    assert sorted(await asyncio.gather(*waiting)) == [0, 1, 2]
