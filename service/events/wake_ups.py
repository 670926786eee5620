"""Wake-ups between processes, over Redis: a process signals that there is new work.

A lost wake-up costs latency and nothing else, because every listener also polls. Therefore no
request waits for a wake-up to be sent, and an unreachable Redis is no error.
"""

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

Topic = Literal["event", "tick", "delivery"]
"""event: the outbox has new rows. tick: there is a new window. delivery: a delivery is due."""

CHANNEL = "leadlog:wake"
PUBLISH_PAUSE_S = 0.02
"""Limits a process to fifty PUBLISH per second, however many events it writes."""
RECONNECT_S = 0.5
SEND_S = 1.0
CONNECTED_POLL_S, LONE_POLL_S = 5.0, 0.2
"""How often a listener polls while the process receives wake-ups, and while it does not."""


class Wakeups:
    """The wake-ups that one process sends and receives."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sender = secrets.token_hex(8)
        """Distinguishes the messages of this process, whose listeners need no second wake-up."""
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._alarms: set[asyncio.Event] = set()
        self._unsent: set[Topic] = set()
        self._something_unsent = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._is_subscribed = False
        self._can_send = True

    @property
    def poll_s(self) -> float:
        """How long a listener without a wake-up may sleep."""
        return CONNECTED_POLL_S if self._is_subscribed and self._can_send else LONE_POLL_S

    def count(self, topic: Topic) -> int:
        """The number of wake-ups of a topic in this process so far."""
        return self._counts[topic]

    def notify(self, topic: Topic) -> None:
        """Wake the listeners of this process now, and those of other processes a moment later."""
        self.wake_here(topic)
        self._unsent.add(topic)
        self._something_unsent.set()

    @asynccontextmanager
    async def listen(self, *topics: Topic) -> AsyncIterator["Alarm"]:
        """Yield an alarm that a wake-up of any of the topics sets."""
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
        """Send wake-ups in the background while entered; with `listening`, also receive them."""
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
        """Wake the listeners of this process only."""
        self._counts[topic] += 1
        for event in self._listeners[topic]:
            event.set()

    def wake_all_here(self) -> None:
        """Wake all listeners of this process, of every topic."""
        for event in self._alarms:
            event.set()

    async def _send_forever(self) -> None:
        while True:
            await self._something_unsent.wait()
            self._something_unsent.clear()
            topics, self._unsent = self._unsent, set()
            message = ",".join([self._sender, *sorted(topics)])
            try:
                async with asyncio.timeout(SEND_S):  # Redis may be silent, but connected
                    await self._redis.publish(CHANNEL, message)
                self._can_send = True
            except (RedisError, OSError):
                self._can_send = False
                self.wake_all_here()  # from now on the listeners poll more often
                await asyncio.sleep(RECONNECT_S)
            await asyncio.sleep(PUBLISH_PAUSE_S)

    async def _listen_forever(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                await self._listen_until_lost()
            self._is_subscribed = False
            self.wake_all_here()  # from now on the listeners poll more often
            await asyncio.sleep(RECONNECT_S)

    async def _listen_until_lost(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            self._is_subscribed = True
            for topic in list(self._listeners):  # a wake-up may have been missed
                self.wake_here(topic)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    sender, *topics = message["data"].decode().split(",")
                    for topic in topics if sender != self._sender else ():
                        self.wake_here(topic)


class Alarm:
    """The alarm of one listener."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a wake-up. True at once if one came since the last wait; False: none in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        was_set = self._event.is_set()
        self._event.clear()
        return was_set
