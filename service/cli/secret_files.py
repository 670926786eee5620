"""Files that hold a secret: mode 0600, in a folder that other users cannot read."""

import os
import stat
from pathlib import Path

from service.cli.processes import StartError


def read_secret(path: Path) -> str | None:
    """Reads a secret; None if there is no file. Raises StartError if other users can read it."""
    try:
        with open(path, encoding="ascii", errors="replace", opener=_open_secret) as file:
            _check_private(path, os.fstat(file.fileno()))
            return file.read().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"{path} cannot be read ({error.strerror}): move it away.") from error


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise StartError(f"{path} is not a file of ours: move it away.")
    if found.st_mode & 0o077:
        raise StartError(
            f"{path} can be read by others: replace what it holds if they may have seen it, "
            f"then run chmod 600 {path}."
        )


def _open_secret(path: str, flags: int) -> int:
    """Opens no symbolic link, and does not wait for the writer of a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def write_secret(path: Path, text: str) -> None:
    """Writes a secret to a file of mode 0600, atomically."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)
