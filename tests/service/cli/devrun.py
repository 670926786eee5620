"""Runs `leadlog dev` as a separate process, as a user would."""

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 40.0
PROJECT = Path(__file__).resolve().parents[3]
OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
"""The output that is buffered until a test reads it: a full pipe blocks every process that logs."""


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass
class DevRun:
    """A run of `leadlog dev`; `lines`: its output so far."""

    process: asyncio.subprocess.Process
    url: str
    folder: Path
    lines: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return (self.folder / "admin.key").read_text().strip()

    async def wait_for(self, text: str) -> str:
        """Waits for a line with this text, and returns it."""
        if self.process.stdout is None:
            raise RuntimeError("no pipe")
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line.rstrip("\n"))
                if text in line:
                    return self.lines[-1]
        raise AssertionError(f"{text!r} did not come, but {self.lines}")

    async def wait_until_ready(self) -> None:
        await self.wait_for("/leads/search?q=")

    async def read_to_end(self) -> int:
        """Waits for the end and returns the exit code; the rest of the output goes to `lines`."""
        async with asyncio.timeout(PATIENCE_S):
            rest, _ = await self.process.communicate()
        self.lines += rest.decode().splitlines()
        if self.process.returncode is None:
            raise RuntimeError("it ended without an exit code")
        return self.process.returncode

    def family(self) -> list[psutil.Process]:
        """The process and all of its descendants."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def find(self, word: str) -> psutil.Process:
        """The child process with this word on its command line."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if word in child.cmdline())

    def stop_reading(self) -> None:
        """Closes the reading end of the output pipe, as a killed `tee` would."""
        transport = self.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
        transport.close()

    async def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        return await self.read_to_end()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Calls the API with the admin key."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)


@asynccontextmanager
async def start_dev(
    folder: Path, port: int, env: Mapping[str, str] | None = None
) -> AsyncIterator[DevRun]:
    """Starts `leadlog dev`, and stops it at the end if it still runs."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "HOST", "LOG_FORMAT"}
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.cli.main", "dev", "--end-with-parent"),
        cwd=PROJECT,
        env={
            **clean,
            "SHED_AFTER_S": "60",
            "DATA_DIR": str(folder),
            "PORT": str(port),
            **(env or {}),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=OUTPUT_LIMIT_BYTES,
    )
    run = DevRun(process, f"http://127.0.0.1:{port}", folder)
    try:
        yield run
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()


async def wait_gone(processes: list[psutil.Process], within_s: float = 10.0) -> None:
    """Fails if a process still runs after `within_s`. Zombies count as ended."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, within_s)
    if running := [process for process in alive if not _is_zombie(process)]:
        raise AssertionError(f"still running: {running}")


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
