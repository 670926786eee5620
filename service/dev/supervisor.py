"""The parts of `leadlog dev`: started, started again when one dies, and stopped."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import psutil

from service import launch
from service.processes import Child, StartError

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
# One that ran this long had no trouble starting.
HEALTHY_AFTER_S = 30.0
PROJECT = Path(__file__).resolve().parents[2]


class Part(Protocol):
    """A server, the API or the workers."""

    @property
    def title(self) -> str: ...
    async def start(self) -> None: ...
    async def wait(self) -> int: ...
    async def stop(self, grace_s: float) -> None: ...


class Command:
    """One of our own commands in a process of its own, such as `leadlog serve`."""

    def __init__(
        self, title: str, arguments: Sequence[str], env: Mapping[str, str], lock_fd: int
    ) -> None:
        """It holds `lock_fd` open for as long as it runs."""
        self.title = title
        # Neither what lies in the current folder nor another Leadlog on the path: this one.
        self._env = {**env, "PYTHONPATH": str(PROJECT)}
        # Without us it goes at once: the database goes too, and nothing could be settled any more.
        self._argv = launch.build_command(
            [sys.executable, "-P", "-m", "service.cli", *arguments], signal.SIGKILL
        )
        self._lock_fd = lock_fd
        self._child: Child | None = None

    async def start(self) -> None:
        self._child = Child(self._argv, env=self._env, pass_fds=[self._lock_fd])

    async def wait(self) -> int:
        if self._child is None:
            raise RuntimeError(f"{self.title} was not started")
        return await self._child.wait()

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return None if self._child is None else self._child.poll()

    async def stop(self, grace_s: float) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop([signal.SIGTERM], grace_s)


async def keep_running(part: Part, say: Callable[[str], None]) -> NoReturn:
    """Starts a part again whenever it ends, at first soon, then more and more slowly."""
    pause_s = FIRST_PAUSE_S
    while True:
        since = time.monotonic()
        try:
            reason = describe_exit(await part.wait())
            if time.monotonic() - since > HEALTHY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            say(f"{part.title} {reason}; starting again in {pause_s:g} s.")
            await asyncio.sleep(pause_s)
            await part.start()
        except StartError as error:
            say(str(error))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def stop_all(parts: Sequence[Part], grace_s: float) -> None:
    """Stops parts side by side."""
    await asyncio.gather(*(part.stop(grace_s) for part in parts))


def describe_exit(code: int) -> str:
    """What an exit code says, as the rest of a sentence."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def force_exit() -> NoReturn:
    """Kills all that we started, and us."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    os._exit(1)
