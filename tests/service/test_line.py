"""A line: who has waited longest is given first, and nothing that is given is lost."""

import asyncio

import pytest

from service.errors import Unavailable
from service.line import Line


async def test_who_has_waited_longest_is_given_first() -> None:
    line: Line[int] = Line("test", lambda _: None)
    waiting = [asyncio.create_task(line.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert len(line) == 3
    assert all(line.give(n) for n in range(3))
    assert not line.give(3)
    assert await asyncio.gather(*waiting) == [0, 1, 2]


async def test_who_gives_up_is_passed_over_and_what_was_given_just_then_comes_back() -> None:
    back: list[int] = []
    line: Line[int] = Line("test", back.append)
    early, late, last = [asyncio.create_task(line.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    early.cancel()
    assert line.give(1)  # early has not run since, and gets nothing
    late.cancel()
    assert line.give(2)
    found = await asyncio.gather(early, late, last, return_exceptions=True)
    assert [type(each) for each in found[:2]] == [asyncio.CancelledError, asyncio.CancelledError]
    assert found[2] == 2
    assert back == [1]
    assert len(line) == 0


async def test_a_line_whose_first_has_waited_too_long_takes_no_more_until_it_is_gone() -> None:
    line: Line[int] = Line("test", lambda _: None, limit_s=0.05)
    first = asyncio.create_task(line.wait())
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable):
        await line.wait()
    assert line.give(1)
    young = asyncio.create_task(line.wait())
    await asyncio.sleep(0)
    assert line.give(2)
    assert [await first, await young] == [1, 2]


async def test_a_newcomer_is_refused_by_how_fast_the_line_has_lately_moved() -> None:
    line: Line[int] = Line("test", lambda _: None, limit_s=0.3)
    waiting = [asyncio.create_task(line.wait())]
    for n in range(39):  # every 50 ms: fifteen would wait 0.75 s
        waiting.append(asyncio.create_task(line.wait()))
        await asyncio.sleep(0.05)
        line.give(n)
    async with asyncio.timeout(1):
        behind = [asyncio.create_task(line.wait()) for _ in range(15)]
        await asyncio.sleep(0)
        refused = [task for task in behind if task.done()]
    assert 5 < len(refused) < 13
    assert all(isinstance(task.exception(), Unavailable) for task in refused)
    for task in (*waiting, *behind):
        task.cancel()
    await asyncio.gather(*waiting, *behind, return_exceptions=True)


async def test_a_line_that_stood_still_once_takes_newcomers_again_soon() -> None:
    line: Line[int] = Line("test", lambda _: None, limit_s=0.2)
    stuck = [asyncio.create_task(line.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    line.give(0)
    await asyncio.sleep(0.5)
    with pytest.raises(Unavailable):
        await line.wait()
    line.give(1)
    await asyncio.gather(*stuck)
    for n in range(80):  # one at a time: the line is empty in between
        one = asyncio.create_task(line.wait())
        await asyncio.sleep(0.001)
        line.give(n)
        assert await one == n
    crowd = [asyncio.create_task(line.wait()) for _ in range(25)]
    await asyncio.sleep(0)
    assert not [task for task in crowd if task.done()]
    for n in range(25):
        line.give(n)
    assert await asyncio.gather(*crowd) == list(range(25))
