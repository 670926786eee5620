"""Tells the other processes, over Redis, that there is something to do.

A lost wake-up costs latency and nothing else: whoever waits also looks by itself after a while.
So nothing here is awaited on a request's way, and a Redis that is away is no error.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

Topic = Literal["event", "tick", "delivery"]
"""event: the outbox has new rows; tick: there is a new window; delivery: a webhook is due."""

CHANNEL = "leadlog:wake"
PUBLISH_PAUSE_S = 0.01
"""At most a hundred PUBLISH a second from one process, however many events it writes."""
RECONNECT_S = 0.5


class Wakeups:
    """The wake-ups of one process: those it sends and those it listens for."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._alarms: set[asyncio.Event] = set()
        self._unsent: set[Topic] = set()
        self._something_unsent = asyncio.Event()

    def notify(self, topic: Topic) -> None:
        """Wakes the listeners of this process now, those of others within a moment."""
        self.wake_here(topic)
        self._unsent.add(topic)
        self._something_unsent.set()

    @asynccontextmanager
    async def listen(self, *topics: Topic) -> AsyncIterator["Alarm"]:
        """An alarm that goes off at any of the topics."""
        event = asyncio.Event()
        self._alarms.add(event)
        for topic in topics:
            self._listeners[topic].add(event)
        try:
            yield Alarm(event)
        finally:
            self._alarms.discard(event)
            for topic in topics:
                self._listeners[topic].discard(event)

    @asynccontextmanager
    async def running(self, *, listening: bool) -> AsyncIterator[None]:
        """Keeps sending (and, in workers, listening) until left."""
        tasks = [asyncio.create_task(self._send_forever())]
        if listening:
            tasks.append(asyncio.create_task(self._listen_forever()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def wake_here(self, topic: str) -> None:
        """Wakes the listeners of this process only."""
        for event in self._listeners[topic]:
            event.set()

    def wake_all_here(self) -> None:
        """Wakes all who listen in this process, whatever to."""
        for event in self._alarms:
            event.set()

    async def _send_forever(self) -> None:
        while True:
            await self._something_unsent.wait()
            self._something_unsent.clear()
            topics, self._unsent = self._unsent, set()
            try:
                await self._redis.publish(CHANNEL, ",".join(sorted(topics)))
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)
            await asyncio.sleep(PUBLISH_PAUSE_S)

    async def _listen_forever(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                await self._listen_until_lost()
            await asyncio.sleep(RECONNECT_S)

    async def _listen_until_lost(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            for topic in list(self._listeners):  # something may have happened while we were deaf
                self.wake_here(topic)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    for topic in message["data"].decode().split(","):
                        self.wake_here(topic)


class Alarm:
    """What a listener waits on."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self, timeout_s: float) -> bool:
        """True if it went off since the last wait or does within the time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        rang = self._event.is_set()
        self._event.clear()
        return rang
