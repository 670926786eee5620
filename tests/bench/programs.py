"""Runs the load programs to their end; they are killed if the bench ends first."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE_S = 30.0


class LoadError(Exception):
    """A load program is missing or failed; the message says why and what to do."""


async def run_program(
    argv: Sequence[str | Path],
    seconds: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """The program's output; LoadError if it fails or takes GRACE_S longer than `seconds`."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=None if env is None else {**os.environ, **env},
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C must reach only the bench
    )
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise LoadError(f"{Path(argv[0]).name} did not end in time.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    text = output.decode(errors="replace")
    if process.returncode != 0:
        lines = text.strip().splitlines() or ["it said nothing"]
        told = next((line for line in lines if "ERROR" in line), lines[-1])
        raise LoadError(f"{Path(argv[0]).name} failed: {told}")
    return text
