"""Runs limiters on one real Valkey, each as a process of its own would."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from service.access.plans import Plan
from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Valkey
from service.errors import RateLimited
from service.rate_limits.limiter import Admission, Limiter

ROUTE = "GET /leads"
MINUTE = Plan("minute", per_minute=100)
SLOTS = Plan("slots", concurrent=6)


@pytest.fixture
def redis_url(redis_url: str) -> str:
    """A separate database: the app of other tests would count as a further process."""
    return f"{redis_url}?db=1"


class Clock:
    """The real time, moved to the start of a minute; a test may advance it."""

    def __init__(self) -> None:
        self.ahead_s = 60 - time.time() % 60

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@asynccontextmanager
async def run_limiters(
    url: str, count: int, clock: Callable[[], float] | None = None
) -> AsyncIterator[list[Limiter]]:
    """Runs `count` limiters; yields them when each knows of all others."""
    async with AsyncExitStack() as stack:
        limiters = [Limiter(url, clock=clock or Clock()) for _ in range(count)]
        for limiter in limiters:
            await stack.enter_async_context(limiter.running())
        await wait_until(lambda: all(limiter._processes == count for limiter in limiters))
        yield limiters


@asynccontextmanager
async def run_valkey(path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(prepare_folder(path), durable=False) as server:
        yield server


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def wait_until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110  # no event announces it
            await asyncio.sleep(0.02)


async def count_through(limiter: Limiter, plan: Plan, tries: int, route: str = ROUTE) -> int:
    """Sends `tries` concurrent requests, ends them, and returns how many were admitted."""
    found = await asyncio.gather(*[try_one(limiter, plan, route) for _ in range(tries)])
    for admission in found:
        if admission is not None:
            admission.end()
    return sum(admission is not None for admission in found)


async def try_one(limiter: Limiter, plan: Plan, route: str = ROUTE) -> Admission | None:
    try:
        return await limiter.admit("key_1", plan, route)
    except RateLimited:
        return None


async def hold(limiter: Limiter, plan: Plan, count: int) -> list[Admission]:
    return [await limiter.admit("key_1", plan, ROUTE) for _ in range(count)]


async def hold_when_free(limiter: Limiter, plan: Plan, count: int) -> list[Admission]:
    """Like `hold`, but waits for each slot until it is free."""
    held: list[Admission] = []
    async with asyncio.timeout(60):
        while len(held) < count:
            if (admission := await try_one(limiter, plan)) is not None:
                held.append(admission)
            else:
                await asyncio.sleep(0.01)
    return held
