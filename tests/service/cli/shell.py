"""A shell that runs the README's blocks, as a reader would."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.harness.documents import ROOT

PATIENCE_S = 60.0
PROGRAMS = str(Path(sys.executable).parent)


class Shell:
    """A running `sh`; variables are kept from block to block."""

    def __init__(self, process: asyncio.subprocess.Process, changes: Mapping[str, str]) -> None:
        self._process = process
        self._changes = {".venv/bin": PROGRAMS, **changes}

    def adapt(self, block: str) -> str:
        """Replaces the addresses and folders of the README by those of the test."""
        for old, new in self._changes.items():
            block = block.replace(old, new)
        return block

    async def run(self, block: str) -> str:
        """Runs a block and returns its output. Fails if the last command fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self.adapt(block)}\necho; echo END $?\n".encode())
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while not lines or not lines[-1].startswith("END "):
                line = await self._process.stdout.readline()
                assert line, lines
                lines.append(line.decode().rstrip("\n"))
        assert lines[-1] == "END 0", lines
        return "\n".join(lines[:-1]).strip()

    async def run_until(self, block: str, wanted: str) -> str:
        """Runs a block again until its output contains `wanted`."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if wanted in (output := await self.run(block)):
                    return output
                await asyncio.sleep(0.1)


@asynccontextmanager
async def open_shell(env: Mapping[str, str], changes: Mapping[str, str]) -> AsyncIterator[Shell]:
    """Starts a shell, and stops it at the end."""
    process = await _start("sh", env=env, stdin=asyncio.subprocess.PIPE)
    try:
        yield Shell(process, changes)
    finally:
        process.terminate()
        await process.communicate()


class Background:
    """A program in the background that prints a JSON object per line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read(self, count: int) -> list[Any]:
        """The next objects that the program prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            lines = [await self._process.stdout.readline() for _ in range(count)]
        return [json.loads(line) for line in lines]


@asynccontextmanager
async def start_program(
    command: str, env: Mapping[str, str], said: str | None = None
) -> AsyncIterator[Background]:
    """Runs a program in the background; waits for `said` on its standard error, if given."""
    stderr = None if said is None else asyncio.subprocess.PIPE
    process = await _start("sh", "-c", f"exec {command}", env=env, stderr=stderr)
    try:
        if process.stderr is not None:
            async with asyncio.timeout(PATIENCE_S):
                line = await process.stderr.readline()
            assert said is not None
            assert said in line.decode()
        yield Background(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _start(
    *argv: str, env: Mapping[str, str], stdin: int = asyncio.subprocess.DEVNULL,
    stderr: int | None = None,
) -> asyncio.subprocess.Process:  # fmt: skip
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    return await asyncio.create_subprocess_exec(
        *argv, cwd=ROOT, env={**os.environ, "PATH": path, **env},
        stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=stderr, limit=2**20,
    )  # fmt: skip
