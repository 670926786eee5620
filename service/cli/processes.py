"""Child processes: each runs in its own session, and none outlives this process."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

POLL_S = 0.02
MAX_POLL_S = 0.25
NEXT_SIGNAL_GRACE_S = 1.0
LOG_LIMIT_BYTES = 10 * 1024 * 1024


class StartError(Exception):
    """A failure to start; the message is one sentence with the reason and the remedy."""


class KilledError(StartError):
    """A process was killed during its start: another attempt may succeed."""


class Ending(NamedTuple):
    """The end of a part of `leadlog dev`."""

    reason: str
    """It continues a sentence that begins with the name of the part."""
    is_external: bool
    """Whether the cause was outside of the part, so that it can probably start again at once."""


class Child:
    """A running process. The terminal's Ctrl-C does not reach it: its owner stops it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Starts the process; its output goes to `log`, or without one to our own output."""
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
        """The exit code, negative for a signal; None while the process runs."""
        return self._process.poll()

    async def wait(self) -> int:
        """Waits for the end of the process; returns the exit code."""
        pause_s = POLL_S
        while (code := self.poll()) is None:
            await asyncio.sleep(pause_s)
            pause_s = min(
                pause_s * 1.1, MAX_POLL_S
            )  # a quick end is noticed soon, a long run costs little
        return code

    async def stop(self, signals: Sequence[signal.Signals], grace_s: float) -> None:
        """Sends the signals one after another until the process ends, then kills its session."""
        try:
            for number in signals:
                if self.poll() is None:
                    self._process.send_signal(number)
                    await self._wait_at_most(grace_s)
                    grace_s = NEXT_SIGNAL_GRACE_S
        finally:
            self.kill()

    async def _wait_at_most(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.wait()

    def kill(self) -> None:
        """Kills the process and all of its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def open_log(path: Path) -> BinaryIO:
    """Opens a log for appending, mode 0600; a large log is first renamed to `.old`."""
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_name(path.name + ".old"))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "ab")


def describe_exit(code: int) -> str:
    """Describes an exit code in words that follow the name of the process in a sentence."""
    if code < 0:
        known = {each.value for each in signal.Signals}  # not every real-time signal has a name
        return f"was ended by {signal.Signals(-code).name if -code in known else f'signal {-code}'}"
    return f"ended with exit code {code}"


def make_ending(code: int) -> Ending:
    """The end of a process with this exit code."""
    return Ending(describe_exit(code), is_external=code < 0)
