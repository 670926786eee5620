"""Admits requests within the plan of their API key, exactly across all processes.

Most requests are admitted by grants that this process got in advance; the others wait for one round
trip to Redis, shared by all waiting requests. While Redis is away each process enforces its part of
the limits, and reports the admitted requests when Redis is back.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

from service.access.plans import Plan
from service.database.batching import Batcher
from service.errors import Unavailable
from service.events.redis_ping import describe_error, describe_outage
from service.rate_limits.headers import Headers, make_headers, make_refusal
from service.rate_limits.key_usage import KeyUsage
from service.rate_limits.share import Share
from service.rate_limits.shared_counts import AWAY, SharedCounts
from service.telemetry.logging import get_logger
from service.telemetry.metrics import REQUESTS_LIMITED

TICK_S, REPORT_S = 0.02, 1.0
FORGET_S = 600.0
LimitRequest: TypeAlias = tuple[Collection[KeyUsage], Sequence[Share]]
"""Keys to report to Redis, and shares in which one more request is to be granted."""
log = get_logger("limits")


class Admission:
    """An admitted request, until its response is sent."""

    __slots__ = ("_slots", "headers")

    def __init__(self, slots: Share, headers: Headers) -> None:
        self._slots = slots
        self.headers = headers

    def end(self) -> None:
        """Release its slot."""
        self._slots.used -= 1


class Limiter:
    """The limits as enforced by one process."""

    def __init__(
        self, redis_url: str, processes: int = 1, clock: Callable[[], float] = time.time
    ) -> None:
        """`processes` is the number of processes until Redis has counted them."""
        self._redis_url = redis_url
        self._counts = SharedCounts(redis_url)
        self._clock = clock
        self._usages: dict[str, KeyUsage] = {}
        self._open: set[KeyUsage] = set()
        self._has_open = asyncio.Event()
        self._processes = processes
        self._sharers = 0
        """How many processes divide the limits among them; 0: Redis grants."""
        self._redis_error = ""
        # One call at a time: each reports absolute counts, so they must arrive in order.
        self._requests: Batcher[LimitRequest, None] = Batcher(self._call_redis, lanes=1)

    @property
    def redis_error(self) -> str | None:
        """The type of the error with which Redis cannot be used now; None: it can."""
        return self._redis_error if self._sharers else None

    async def admit(self, key_id: str, plan: Plan, route: str) -> Admission:
        """Admit a request. Raises RateLimited."""
        while (admission := self.admit_now(key_id, plan, route)) is None:
            usage, now = self._usages[key_id], self._clock()
            shares = usage.list_shares(route, now)
            for share in shares:
                if not share.has_room(self._sharers) and (self._sharers or now < share.spent_until):
                    REQUESTS_LIMITED.labels(share.rule.name).inc()
                    raise make_refusal(share, now)
            await self._requests.submit(([usage], shares))
        return admission

    def admit_now(self, key_id: str, plan: Plan, route: str) -> Admission | None:
        """Admit a request without waiting; None if it needs a call to Redis, or has no room."""
        now = self._clock()
        usage = self._usages.get(key_id)
        if usage is None:
            usage = self._usages[key_id] = KeyUsage(key_id, plan, now)
        elif usage.plan is not plan:
            usage.set_plan(plan)
        shares = usage.list_shares(route, now)
        for share in shares:
            if not share.has_room(self._sharers):
                return None
        usage.use(shares, now)
        return Admission(usage.slots, make_headers(shares))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Report to Redis while entered; then return all grants."""
        task = asyncio.create_task(self._tick_forever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for usage in self._usages.values():
                usage.used_at = 0.0
            with suppress(Unavailable, *AWAY):
                await self._requests.submit((self._usages.values(), ()))
            with suppress(*AWAY):
                await self._counts.close()

    async def _call_redis(self, requests: Sequence[LimitRequest]) -> Sequence[None]:
        """Update the shares. While Redis is away, make no call: `admit` applies the part."""
        await asyncio.sleep(0)  # requests admitted by the last call are counted first
        waiting = Counter(share for _, shares in requests for share in shares)
        usages = dict.fromkeys(usage for usages, _ in requests for usage in usages)
        if usages and not self._sharers:
            try:
                await self._counts.update(usages.keys(), waiting, self._clock())
            except AWAY as error:
                self._divide_limits(error)
            self._open.update(usages)
            self._has_open.set()
        return [None] * len(requests)

    def _divide_limits(self, error: Exception) -> None:
        """Enforce this process's part of the limits while Redis is away; granted slots are void."""
        if not self._sharers:
            reason = describe_outage(self._redis_url, describe_error(error))
            log.warning("limits.local", processes=self._processes, reason=reason)
        self._sharers, self._redis_error = self._processes, type(error).__name__
        for usage in self._usages.values():
            usage.slots.granted = 0

    async def _tick_forever(self) -> None:
        report_at = time.monotonic()
        while True:
            with suppress(Unavailable):  # the queue is full of waiting requests, which come first
                if time.monotonic() >= report_at:
                    report_at = time.monotonic() + REPORT_S
                    await self._report()
                await self._return_surplus()
            await self._sleep(report_at - time.monotonic())

    async def _sleep(self, seconds: float) -> None:
        """Sleep for a tick; while no key is open, up to `seconds`."""
        if self._open:
            await asyncio.sleep(TICK_S)
            return
        self._has_open.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._has_open.wait()

    async def _return_surplus(self) -> None:
        now = self._clock()
        self._open = {usage for usage in self._open if usage.is_open(now)}
        if surplus := [usage for usage in self._open if usage.has_surplus(now)]:
            await self._requests.submit((surplus, ()))

    async def _report(self) -> None:
        """Report to Redis that this process is alive, and the usage of its open keys."""
        now = self._clock()
        try:
            self._processes = await self._counts.register(now)
        except AWAY as error:
            self._divide_limits(error)
            return
        if self._sharers:
            self._sharers = 0
            log.warning("limits.shared", processes=self._processes)
        self._open = {usage for usage in self._usages.values() if usage.is_open(now)}
        await self._requests.submit((self._open, ()))
        for key_id, usage in list(self._usages.items()):
            if usage not in self._open and now - usage.used_at > FORGET_S:
                del self._usages[key_id]
