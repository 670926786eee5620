"""Allows only one `leadlog dev` per data folder, even right after the previous one was killed.

The lock is a flock on `dev.lock`. The API and the workers inherit it, so that it is released only
when the last of them has ended. The file contains the process id of its `leadlog dev`.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from service.cli.processes import StartError

STOPPING = "stopping"
STOP_WAIT_S = 15.0
ORPHAN_GRACE_S = 10.0
_RETRY_S = 0.05


class FolderLock:
    """The held lock; child processes inherit `fd`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def mark_stopping(self) -> None:
        """Makes the next `leadlog dev` wait for this one instead of refusing to start."""
        self.write(f"{os.getpid()} {STOPPING}")

    def write(self, text: str) -> None:
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, text.encode(), 0)


@contextmanager
def lock_folder(folder: Path, report: Callable[[str], None]) -> Iterator[FolderLock]:
    """Holds the folder's lock. Raises StartError if another `leadlog dev` runs there.

    Waits for a `leadlog dev` that is stopping, and ends the processes of a killed one.
    """
    path = folder / "dev.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if not _try_lock(fd):
            _wait_for_lock(fd, path, report)
        lock = FolderLock(fd)
        lock.write(str(os.getpid()))
        yield lock
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_lock(fd: int, path: Path, report: Callable[[str], None]) -> None:
    pid, _, state = os.pread(fd, 64, 0).decode(errors="replace").partition(" ")
    holders = _find_holders(path)
    if state != STOPPING and any(str(holder.pid) == pid for holder in holders):
        raise StartError(
            f"Another `leadlog dev` (process {pid}) runs on the data folder {path.parent}: "
            "stop it first, or set another DATA_DIR and PORT."
        )
    report("Waiting for the previous run to end.")
    if state != STOPPING:
        _end_orphans(holders)
    deadline = time.monotonic() + STOP_WAIT_S
    while not _try_lock(fd):
        if time.monotonic() > deadline:
            raise StartError(
                f"Processes of a previous run still use the data folder {path.parent}: end them."
            )
        time.sleep(_RETRY_S)


def _find_holders(path: Path) -> list[psutil.Process]:
    """Other processes that have the lock file open."""
    found = []
    for process in psutil.process_iter():
        try:
            is_open = any(file.path == str(path) for file in process.open_files())
        except psutil.Error:
            continue  # ended, or of another user
        if is_open and process.pid != os.getpid():
            found.append(process)
    return found


def _end_orphans(orphans: list[psutil.Process]) -> None:
    for orphan in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.terminate()
    _, alive = psutil.wait_procs(orphans, timeout=ORPHAN_GRACE_S)
    for orphan in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()
