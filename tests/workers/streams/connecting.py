"""Runs the example connector as users do, in a process, and reads the lines that it prints."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[3] / "deploy/examples/crm_connector.py"
WAIT_S = 15.0
Line = dict[str, Any]


@dataclass
class Connector:
    """A process that runs the script, and the lines that it has printed."""

    process: asyncio.subprocess.Process
    lines: list[Line] = field(default_factory=list)

    async def wait_until(self, condition: Callable[["Connector"], bool]) -> None:
        """Reads lines until the condition holds."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while not condition(self):
                line = await self.process.stdout.readline()
                assert line, "the connector ended"
                self.lines.append(json.loads(line))

    async def wait_for_count(self, count: int) -> None:
        await self.wait_until(lambda c: len(c.events) >= count)

    async def wait_for_events(self, event_ids: list[str]) -> None:
        await self.wait_until(lambda c: set(event_ids) <= {line.get("eventId") for line in c.lines})

    async def wait_for_notice(self, text: str) -> Line:
        await self.wait_until(lambda c: any(text in line.get("notice", "") for line in c.lines))
        return next(line for line in self.lines if text in line.get("notice", ""))

    async def stop(self) -> None:
        """Ends the process as its user does, and reads what it prints at the end."""
        self.process.terminate()
        rest, _ = await self.process.communicate()
        self.lines += [json.loads(line) for line in rest.splitlines()]
        assert self.process.returncode == 0

    @property
    def events(self) -> list[Line]:
        return [line for line in self.lines if "eventId" in line]


@dataclass
class Starter:
    """Starts connectors that share a group and a memory file; stops them at the end of the test."""

    redis_url: str
    memory: Path
    stack: AsyncExitStack

    async def start(self, *arguments: str) -> Connector:
        return await self.stack.enter_async_context(self._run(arguments))

    @asynccontextmanager
    async def _run(self, arguments: tuple[str, ...]) -> AsyncIterator[Connector]:
        no_folder = str(self.memory.with_name("no folder"))
        bare = {**os.environ, "LEADLOG_KEY": "", "DATA_DIR": no_folder}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), "--group", "crm", "--redis", self.redis_url,
            "--memory", str(self.memory), *arguments, stdout=asyncio.subprocess.PIPE,
            limit=2**20, env=bare,
        )  # fmt: skip
        try:
            yield Connector(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
