"""Servers that a killed run left behind."""

import contextlib
import signal
from pathlib import Path

import psutil

LEFTOVER_GRACE_S = 10.0


def end_leftovers(folder: Path, programs: frozenset[str]) -> None:
    """Ends the processes of these programs that work in the folder: never two servers on one."""
    parents = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone, or not ours
            if process.name() in programs and process.cwd() == str(folder):
                parents[process] = process.ppid()
    ids = {process.pid for process in parents}
    for process, parent in parents.items():
        if parent not in ids:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(list(parents), timeout=LEFTOVER_GRACE_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=LEFTOVER_GRACE_S)
