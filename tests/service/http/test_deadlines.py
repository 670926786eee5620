"""A block that exceeds its deadline is cancelled, and nothing else is."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.http.deadlines import CHECK_EVERY_S, Deadlines


@pytest.fixture
async def deadlines() -> AsyncIterator[Deadlines]:
    made = Deadlines()
    async with made.running():
        yield made


async def test_a_block_that_exceeds_its_deadline_is_cancelled_and_later_code_is_not(
    deadlines: Deadlines,
) -> None:
    with pytest.raises(TimeoutError), deadlines.limit(0.01):
        await asyncio.sleep(30)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(2 * CHECK_EVERY_S)


async def test_a_block_that_ends_in_time_is_not_cancelled(deadlines: Deadlines) -> None:
    with deadlines.limit(0.01):
        pass
    await asyncio.sleep(2 * CHECK_EVERY_S)


async def test_a_nested_deadline_ends_only_its_own_block(deadlines: Deadlines) -> None:
    with deadlines.limit(30):
        with pytest.raises(TimeoutError), deadlines.limit(0.01):
            await asyncio.sleep(30)
        await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError), deadlines.limit(0.3), deadlines.limit(30):
        await asyncio.sleep(30)


async def test_a_task_that_other_code_cancels_raises_cancelled_error(deadlines: Deadlines) -> None:
    async def work() -> None:
        with deadlines.limit(30):
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
