"""Ends the servers that a killed run has left running."""

import contextlib
import signal
from pathlib import Path

import psutil

ORPHAN_GRACE_S = 10.0


def end_orphaned_servers(folder: Path, programs: frozenset[str]) -> None:
    """Ends these programs if they run in `folder`; to call before the folder's server starts."""
    parents = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # ended, or of another user
            if process.name() in programs and process.cwd() == str(folder):
                parents[process] = process.ppid()
    ids = {process.pid for process in parents}
    for process, parent in parents.items():
        if parent not in ids:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(list(parents), timeout=ORPHAN_GRACE_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=ORPHAN_GRACE_S)
