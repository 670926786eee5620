"""Starts the parts of `leadlog dev`, restarts a part that ends, and stops them."""

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import psutil

from service.cli import launch
from service.cli.processes import Child, Ending, KilledError, StartError, make_ending

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 5.0
"""The limits of the pause between two starts of a part that fails or ends by itself."""
REPEAT_REPORT_AFTER_S = 60.0
HEALTHY_AFTER_S = 30.0
"""A part that ran this long has started successfully."""
PROJECT = Path(__file__).resolve().parents[3]


class Part(Protocol):
    """A server, the API or the workers."""

    @property
    def title(self) -> str: ...
    async def start(self) -> None: ...
    async def wait(self) -> Ending: ...
    async def stop(self, grace_s: float) -> None: ...


class Command:
    """A command of Leadlog in a child process, such as `leadlog serve`."""

    def __init__(
        self, title: str, arguments: Sequence[str], env: Mapping[str, str], lock_fd: int
    ) -> None:
        """The process inherits `lock_fd` and keeps it open."""
        self.title = title
        # The child imports this Leadlog, not the current folder or another installation.
        self._env = {**env, "PYTHONPATH": str(PROJECT)}
        # The child gets SIGKILL if this process dies: the database ends too, so the child could not
        # finish its requests or jobs.
        self._argv = launch.build_command(
            [sys.executable, "-P", "-m", "service.cli.main", *arguments], signal.SIGKILL
        )
        self._lock_fd = lock_fd
        self._child: Child | None = None

    async def start(self) -> None:
        self._child = Child(self._argv, env=self._env, pass_fds=[self._lock_fd])

    async def wait(self) -> Ending:
        if self._child is None:
            raise RuntimeError(f"{self.title} was not started")
        return make_ending(await self._child.wait())

    def poll(self) -> int | None:
        """The exit code; None while the command runs."""
        return None if self._child is None else self._child.poll()

    async def stop(self, grace_s: float) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop([signal.SIGTERM], grace_s)


async def keep_running(part: Part, report: Callable[[str], None]) -> NoReturn:
    """Starts a part again whenever it ends."""
    pause_s = FIRST_PAUSE_S
    while True:
        since = time.monotonic()
        ending = await part.wait()
        if ending.is_external or time.monotonic() - since > HEALTHY_AFTER_S:
            pause_s = FIRST_PAUSE_S
        report(f"{part.title} {ending.reason}; starting again in {pause_s:g} s.")
        await asyncio.sleep(pause_s)
        await start_with_retries(part, report)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


async def start_with_retries(
    part: Part, report: Callable[[str], None], retry_on: type[Exception] = Exception
) -> None:
    """Tries until the part starts; reports each new reason, and an unchanged one once a minute.

    Errors other than `retry_on` are raised.
    """
    reported, reported_at = "", -math.inf
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            await part.start()
        except retry_on as error:  # any error: the other parts must keep running
            reason = str(error) if isinstance(error, StartError) else _explain(part, error)
            if isinstance(error, KilledError):
                pause_s = FIRST_PAUSE_S
        else:
            break
        if reason != reported or time.monotonic() - reported_at > REPEAT_REPORT_AFTER_S:
            report(f"{reason} Trying again until it starts.")
            reported, reported_at = reason, time.monotonic()
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)
    if reported:
        report(f"{part.title} runs again.")


def _explain(part: Part, error: Exception) -> str:
    return f"{part.title} cannot be started ({str(error) or type(error).__name__})."


async def stop_all(parts: Sequence[Part], grace_s: float) -> None:
    """Stops parts at the same time."""
    await asyncio.gather(*(part.stop(grace_s) for part in parts))


def force_exit() -> NoReturn:
    """Kills all child processes and this process."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    os._exit(1)
