"""All receivers from hell in a process of their own.

`python -m tests.bench.webhooks.villains` prints their addresses by name as one JSON line, and ends
with its standard input.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack

import uvloop

from tests.hell import HELL, run_server


async def main() -> None:
    async with AsyncExitStack() as stack:
        urls = {
            name: await stack.enter_async_context(run_server(behave))
            for name, (behave, *_) in HELL.items()
        }
        print(json.dumps(urls), flush=True)  # noqa: T201
        while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
            pass


if __name__ == "__main__":
    uvloop.run(main())
