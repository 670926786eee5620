"""Who has no time any more is told so, and nobody else."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.http.deadlines import LOOK_EVERY_S, Deadlines


@pytest.fixture
async def deadlines() -> AsyncIterator[Deadlines]:
    made = Deadlines()
    async with made.running():
        yield made


async def test_what_takes_too_long_is_given_up_and_what_comes_after_it_is_not(
    deadlines: Deadlines,
) -> None:
    with pytest.raises(TimeoutError), deadlines.limit(0.01):
        await asyncio.sleep(30)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(2 * LOOK_EVERY_S)


async def test_what_ends_in_time_is_left_alone(deadlines: Deadlines) -> None:
    with deadlines.limit(0.01):
        pass
    await asyncio.sleep(2 * LOOK_EVERY_S)


async def test_the_inner_one_ends_alone_and_the_outer_goes_on(deadlines: Deadlines) -> None:
    with deadlines.limit(30):
        with pytest.raises(TimeoutError), deadlines.limit(0.01):
            await asyncio.sleep(30)
        await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError), deadlines.limit(0.3), deadlines.limit(30):
        await asyncio.sleep(30)


async def test_a_task_that_is_cancelled_by_somebody_else_is_cancelled(deadlines: Deadlines) -> None:
    async def work() -> None:
        with deadlines.limit(30):
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
