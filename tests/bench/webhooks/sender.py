"""One dispatcher in a process of its own, until it is killed; arguments: its part, of how many."""

import os
import sys

import uvloop
from redis.asyncio import Redis

from service.db import create_pool
from service.logs import set_up_logging
from service.settings import load_settings
from service.wakeups import Wakeups
from workers.dispatcher import Dispatcher
from workers.slices import Workshop


async def main(part: int = 0, parts: int = 1) -> None:
    settings = load_settings(os.environ)
    set_up_logging(settings)
    redis = Redis.from_url(settings.require_redis_url())
    wakeups = Wakeups(redis)
    async with await create_pool(settings, "bench") as pool, wakeups.running(listening=True):
        shop = Workshop(settings, pool, redis, wakeups, f"bench/{os.getpid()}")
        dispatcher = Dispatcher(shop, f"dispatcher/{part}", part, parts)
        async with wakeups.listen("delivery") as alarm:
            print("ready", flush=True)  # noqa: T201
            while True:
                if await dispatcher.once() == 0 or dispatcher.has_all:
                    await alarm.wait(dispatcher.idle_s)


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
