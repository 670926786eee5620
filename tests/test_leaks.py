import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.harness.leaks import LeakCheck


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A separate event loop that stands for the loop of the session."""
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@pytest.fixture
def check(loop: asyncio.AbstractEventLoop) -> LeakCheck:
    return LeakCheck(loop, patience_s=0.05)


async def leave_sleeper(seconds: float) -> asyncio.Task[None]:
    return asyncio.create_task(asyncio.sleep(seconds))


async def leave_grandchild() -> None:
    await asyncio.create_task(leave_sleeper(60))


@pytest.mark.parametrize("depth", ["child", "grandchild"])
def test_a_task_that_still_runs_fails_its_test(
    loop: asyncio.AbstractEventLoop, check: LeakCheck, depth: str
) -> None:
    check.begin()
    _ = loop.run_until_complete(leave_sleeper(60) if depth == "child" else leave_grandchild())
    with pytest.raises(pytest.fail.Exception, match=r"left running: task <coroutine object sleep"):
        check.check()
    check.begin()
    check.check()  # the task fails only its own test


def test_a_listening_socket_fails_its_test_and_is_named(check: LeakCheck) -> None:
    check.begin()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(pytest.fail.Exception, match=rf"listening socket .*{port}"):
            check.check()
    check.check()


def test_the_check_waits_for_tasks_that_end_soon(
    loop: asyncio.AbstractEventLoop, check: LeakCheck
) -> None:
    check.begin()
    left = loop.run_until_complete(leave_sleeper(0.005))
    check.check()
    assert left.done()


def test_a_task_from_before_the_test_may_continue_and_create_tasks(
    loop: asyncio.AbstractEventLoop, check: LeakCheck
) -> None:
    woken = asyncio.Event()

    async def create_when_woken() -> asyncio.Task[None]:
        await woken.wait()
        return await leave_sleeper(60)

    async def start() -> asyncio.Task[asyncio.Task[None]]:
        return asyncio.create_task(create_when_woken())

    async def wake() -> None:
        woken.set()
        await before

    before = loop.run_until_complete(start())
    with socket.create_server(("127.0.0.1", 0)):
        check.begin()
        loop.run_until_complete(wake())
        assert before.done()
        check.check()
