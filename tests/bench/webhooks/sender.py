"""Runs one dispatcher until it is killed. The arguments are its part and the number of parts."""

import os
import sys

import uvloop
from redis.asyncio import Redis

from service.database.connect import create_pool
from service.events.wake_ups import Wakeups
from service.settings import load_settings
from service.telemetry.logging import set_up_logging
from workers.dispatcher import Dispatcher
from workers.jobs import WorkerContext


async def main(part: int = 0, parts: int = 1) -> None:
    settings = load_settings(os.environ)
    set_up_logging(settings)
    redis = Redis.from_url(settings.require_redis_url())
    wakeups = Wakeups(redis)
    async with await create_pool(settings, "bench") as pool, wakeups.running(listening=True):
        context = WorkerContext(settings, pool, redis, wakeups, f"bench/{os.getpid()}")
        dispatcher = Dispatcher(context, f"dispatcher/{part}", part, parts)
        async with wakeups.listen("delivery") as alarm:
            print("ready", flush=True)  # noqa: T201
            while True:
                if await dispatcher.once() == 0 or dispatcher.is_drained:
                    await alarm.wait(dispatcher.idle_s)


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
