"""Runs `leadlog listen` in a separate process."""

import asyncio
import json
import signal
import sys
from typing import Any


async def start(*options: str) -> tuple[asyncio.subprocess.Process, str]:
    """Starts the program; returns it and the address at which it listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.cli.main", "listen", *options, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    line = (await process.stderr.readline()).decode()
    assert "Listening at http" in line, line + (await process.stderr.read()).decode()
    if "--forward" in options:
        assert b"Forwarding to" in await process.stderr.readline()
    return process, line.split()[2].rstrip(";")


async def stop(process: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    """Ends the program, checks that it printed no errors, and returns its printed requests."""
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    return [json.loads(line) for line in out.splitlines()]


async def read_heard(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next request that the program prints."""
    assert process.stdout is not None
    heard: dict[str, Any] = json.loads(await process.stdout.readline())
    return heard


async def read_said(process: asyncio.subprocess.Process, wanted: str) -> list[str]:
    """The program's messages on standard error, up to a line that contains `wanted`."""
    assert process.stderr is not None
    said: list[str] = []
    while not said or wanted not in said[-1]:
        line = (await process.stderr.readline()).decode()
        assert line, said
        said.append(line.strip())
    return said
