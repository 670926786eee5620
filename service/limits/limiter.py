"""Lets requests through within their key's plan, counted over all processes.

Most are let through without a word to Redis, out of what it granted before (see windows.py); the
others wait for one round trip, which all who wait share. While Redis is away each process keeps
to its share of the limits, and reports what it let through when Redis is back.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from math import ceil
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.batching import Batcher
from service.errors import RateLimited
from service.limits.plans import Plan
from service.limits.tallies import Tally
from service.limits.windows import IDLE_S, PART_OF_REST, Ask, Window
from service.logs import get_logger
from service.metrics import REQUESTS_LIMITED

SCRIPT = (Path(__file__).parent / "limits.lua").read_text(encoding="utf-8")
PROCESSES_KEY = "leadlog:limits:processes"
BEAT_S, TEND_S = 1.0, 0.02
KEEP_S = 10
"""A process that has not said anything for so long is gone, and its places with it."""
AWAY: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
TIMEOUT_S = 0.25
FORGET_S = 600.0
Headers = list[tuple[bytes, bytes]]
log = get_logger("limits")


class Wish(msgspec.Struct, frozen=True):
    """One who waits: for a request in each of these windows and for a place.

    With `idle_s` nobody waits, but what has not been needed for so long is given back.
    """

    tally: Tally
    windows: Sequence[Window] = ()
    idle_s: float | None = None


class Call(msgspec.Struct, frozen=True):
    """What a batch asks for one key."""

    tally: Tally
    wanted: int
    """Places."""
    asks: list[Ask]


class Limiter:
    """The limits as one process keeps them."""

    def __init__(self, redis_url: str, clock: Callable[[], float] = time.time) -> None:
        self._redis = Redis.from_url(
            redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._tallies: dict[str, Tally] = {}
        self._placed: set[Tally] = set()
        self._something_placed = asyncio.Event()
        self._processes = 1
        self._is_away = False
        # One call at a time: places are said as a whole, so the last word must arrive last.
        self._wishes: Batcher[Wish, None] = Batcher(self._grant_many, lanes=1)

    async def admit(self, key_id: str, plan: Plan, route: str) -> "Admission":
        """Lets a request through. Raises RateLimited."""
        while (admission := self.admit_now(key_id, plan, route)) is None:
            tally, now = self._tallies[key_id], self._clock()
            windows = tally.list_windows(route, now)
            _refuse_if_spent(tally, windows, now)
            await self._wishes.submit(Wish(tally, windows))
        return admission

    def admit_now(self, key_id: str, plan: Plan, route: str) -> "Admission | None":
        """Lets a request through out of what is held; None if Redis is to be asked."""
        tally = self._tallies.get(key_id)
        if tally is None:
            tally = self._tallies[key_id] = Tally(key_id, plan)
        elif tally.plan is not plan:
            tally.follow(plan)
        now = tally.seen_at = self._clock()
        windows = tally.list_windows(route, now)
        if not tally.has_place:
            return None
        for window in windows:
            if not window.held:
                return None
        tally.begin(windows)
        return Admission(tally, _make_headers(windows))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps in touch with Redis until left, then gives everything back."""
        tasks = [
            asyncio.create_task(self._beat_forever()), asyncio.create_task(self._tend_forever())
        ]  # fmt: skip
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(*AWAY):
                await self._give_back(self._tallies.values(), idle_s=0)
                await self._redis.zrem(PROCESSES_KEY, self._name)
            await self._redis.aclose()

    async def _grant_many(self, wishes: list[Wish]) -> Sequence[None]:
        calls = self._make_calls(wishes)
        if not await self._send(calls):
            for call in calls:
                self._lend(call)
        return [None] * len(wishes)

    def _make_calls(self, wishes: Sequence[Wish]) -> list[Call]:
        now = self._clock()
        waiting = Counter(wish.tally for wish in wishes if wish.idle_s is None)
        in_windows = Counter((wish.tally, window) for wish in wishes for window in wish.windows)
        calls = {}
        for tally in dict.fromkeys(wish.tally for wish in wishes):
            places = max(tally.peak, tally.in_flight + waiting[tally])
            calls[tally] = Call(tally, places if tally.plan.concurrent else 0, [])
        for (tally, window), count in in_windows.items():
            if (ask := window.ask_for(count, now)) is not None:
                calls[tally].asks.append(ask)
        for tally, idle_s in [(w.tally, w.idle_s) for w in wishes if w.idle_s is not None]:
            for window in tally.windows:
                if (tally, window) not in in_windows and (ask := window.give_back(now, idle_s)):
                    calls[tally].asks.append(ask)
        return list(calls.values())

    async def _send(self, calls: Sequence[Call]) -> bool:
        """Asks Redis, in one round trip; False if it is away."""
        if self._is_away or not calls:
            return not calls
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for call in calls:
                    pipe.eval(SCRIPT, *self._make_arguments(call))
                replies = await pipe.execute()
        except AWAY as error:
            self._note_away(error)
            return False
        now = self._clock()
        for call, (places, *grants) in zip(calls, replies, strict=True):
            self._note_places(call, places, now)
            for ask, granted, used in zip(call.asks, grants[::2], grants[1::2], strict=True):
                ask.window.hear(ask, granted, used, now)
        return True

    def _make_arguments(self, call: Call) -> Sequence[Any]:
        tally = call.tally
        tag = f"leadlog:limits:{{{tally.key_id}}}"  # all of a key in one slot of a cluster
        keys = [
            f"{tag}:places", *(f"{tag}:{ask.window.rule.name}:{ask.ends_at}" for ask in call.asks)
        ]  # fmt: skip
        arguments = [
            self._name, tally.plan.concurrent or 0, tally.in_flight, call.wanted, KEEP_S,
            PART_OF_REST,
        ]  # fmt: skip
        for ask in call.asks:
            arguments += [
                ask.limit, ask.least, ask.most, ask.unreported, ask.known, ask.ends_at
            ]  # fmt: skip
        return len(keys), *keys, *arguments

    def _note_places(self, call: Call, places: int, now: float) -> None:
        tally = call.tally
        tally.hear(call.wanted, places, now)
        if places:
            self._placed.add(tally)
            self._something_placed.set()
        else:
            self._placed.discard(tally)

    def _lend(self, call: Call) -> None:
        """What this process may let through by itself."""
        now = self._clock()
        for ask in call.asks:
            ask.window.lend(ask, self._processes, now)
        if call.tally.plan.concurrent is not None:
            share = ceil(call.tally.plan.concurrent / self._processes)
            self._note_places(call, min(call.wanted, share), now)

    async def _tend_forever(self) -> None:
        """Gives places back soon after they were needed, for another process may need them."""
        while True:
            await self._something_placed.wait()
            await asyncio.sleep(TEND_S)
            await self._give_back([tally for tally in self._placed if tally.places > tally.peak])
            for tally in self._placed:
                tally.peak = tally.in_flight
            if not self._placed:
                self._something_placed.clear()

    async def _beat_forever(self) -> None:
        while True:
            try:
                await self._beat()
            except AWAY as error:
                self._note_away(error)
            await asyncio.sleep(BEAT_S)

    async def _beat(self) -> None:
        """Says that this process is there, keeps its places, gives back what it did not need."""
        now = self._clock()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(PROCESSES_KEY, {self._name: now + KEEP_S})
            pipe.zremrangebyscore(PROCESSES_KEY, "-inf", now)
            pipe.zcard(PROCESSES_KEY)
            pipe.expire(PROCESSES_KEY, KEEP_S)
            _, _, self._processes, _ = await pipe.execute()
        if self._is_away:
            self._is_away = False
            log.warning("limits.shared", processes=self._processes)
        await self._give_back(tally for tally in self._tallies.values() if tally.holds_something)
        for tally in list(self._tallies.values()):
            if not tally.holds_something and now - tally.seen_at > FORGET_S:
                del self._tallies[tally.key_id]

    async def _give_back(self, tallies: Iterable[Tally], idle_s: float = IDLE_S) -> None:
        await asyncio.gather(*[self._wishes.submit(Wish(t, idle_s=idle_s)) for t in tallies])

    def _note_away(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            log.warning("limits.local", processes=self._processes, reason=repr(error))


class Admission:
    """A request that was let through, until it has its answer."""

    __slots__ = ("_tally", "headers")

    def __init__(self, tally: Tally, headers: Headers) -> None:
        self._tally = tally
        self.headers = headers

    def end(self) -> None:
        """Frees its place."""
        self._tally.end()


def _refuse_if_spent(tally: Tally, windows: Sequence[Window], now: float) -> None:
    for window in windows:
        if window.is_spent(now):
            wait_s = max(ceil(window.ends_at - now), 1)
            _refuse(
                window.rule.name, window.rule.limit, window.ends_at, wait_s,
                f"This key may make {window.rule.words}; "
                f"the next {window.rule.span} begins in {wait_s} s.",
            )  # fmt: skip
    if tally.is_full(now):
        limit = tally.plan.concurrent or 0
        _refuse(
            "concurrent", limit, ceil(now) + 1, 1,
            f"This key may have {limit:,} requests at work at a time; wait for one to end.",
        )  # fmt: skip


def _refuse(by: str, limit: int, reset: int, wait_s: int, message: str) -> NoReturn:
    REQUESTS_LIMITED.labels(by).inc()
    raise RateLimited(
        message,
        headers={
            "Retry-After": str(wait_s),
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(reset),
            "X-RateLimit-RetryAfter": str(wait_s),
        },
    )


def _make_headers(windows: Sequence[Window]) -> Headers:
    """Of the window that will be spent first."""
    if not windows:
        return []
    tightest, remaining = windows[0], windows[0].remaining
    for window in windows[1:]:
        if (left := window.remaining) < remaining:
            tightest, remaining = window, left
    return [*tightest.headers, (b"x-ratelimit-remaining", b"%d" % remaining)]
