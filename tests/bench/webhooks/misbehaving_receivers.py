"""All misbehaving receivers in a separate process.

`python -m tests.bench.webhooks.misbehaving_receivers` prints their URLs by name as one line of
JSON and runs until its standard input ends.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack

import uvloop

from tests.loopback.misbehaving_servers import MISBEHAVIOURS, run_server


async def main() -> None:
    async with AsyncExitStack() as stack:
        urls = {
            name: await stack.enter_async_context(run_server(behave))
            for name, (behave, *_) in MISBEHAVIOURS.items()
        }
        print(json.dumps(urls), flush=True)  # noqa: T201
        while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
            pass


if __name__ == "__main__":
    uvloop.run(main())
