"""Runs one tree's filled databases and `leadlog serve` until standard input closes.

`--against` runs this file once in each tree, with the tree's root as PYTHONPATH: every import below
is that tree's own code. The request is one line of JSON; the reply is one line of JSON with the
running servers.
"""

import asyncio
import sys
from pathlib import Path

import msgspec
import uvloop

from service.cli.dev.supervisor import PROJECT
from tests.bench.stage import set_stage
from tests.bench.targets import start_targets, start_workers


async def main() -> None:
    wanted = msgspec.json.decode(await read_line())
    parent, sizes = Path(wanted["folder"]), wanted["sizes"]
    async with set_stage(parent, sizes, wanted["settings"], log) as stage:
        targets = await start_targets(stage, [("service-1", size) for size in sizes])
        for database in stage.databases.values() if wanted["with_workers"] else ():
            start_workers(stage, database)
        servers = [
            {"url": target.url, "key": target.database.key, "leads": target.database.leads}
            for target in targets.values()
        ]
        answer = {"root": str(PROJECT), "servers": servers}
        print(msgspec.json.encode(answer).decode(), flush=True)  # noqa: T201
        await read_line()


async def read_line() -> str:
    """The next line of standard input; empty once the input has ended."""
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    uvloop.run(main())
