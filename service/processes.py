"""Processes that we start: each in a session of its own, none outlives us."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

POLL_S = 0.02
LONGEST_POLL_S = 0.25
HARDER_GRACE_S = 1.0
LOG_LIMIT_BYTES = 10 * 1024 * 1024


class StartError(Exception):
    """Something cannot be started; the message is one sentence that says why and what to do."""


class Child:
    """One running process, deaf to the terminal's Ctrl-C: we decide in which order all stop."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Starts it at once; `log` takes what it prints, otherwise our own output does."""
        with contextlib.ExitStack() as stack:
            out = None if log is None else stack.enter_context(open_log(log))
            self._process = subprocess.Popen(  # noqa: S603
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=None if out is None else subprocess.STDOUT,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        pause_s = POLL_S
        while (code := self.poll()) is None:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.1, LONGEST_POLL_S)  # quick to see a stop, idle for the rest
        return code

    async def stop(self, signals: Sequence[signal.Signals], grace_s: float) -> None:
        """Asks with the first signal, harder with the next, then kills; its session is gone."""
        try:
            for number in signals:
                if self.poll() is None:
                    self._process.send_signal(number)
                    await self._wait_at_most(grace_s)
                    grace_s = HARDER_GRACE_S
        finally:
            self.kill()

    async def _wait_at_most(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.wait()

    def kill(self) -> None:
        """Ends it and all of its session at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def open_log(path: Path) -> BinaryIO:
    """A log to append to, mode 0600; one that has grown large is put aside as `.old` first."""
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_name(path.name + ".old"))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "ab")


def read_last_line(path: Path) -> str:
    """The last line of a log that says something, to be quoted when a start fails."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
