"""The folder that `leadlog dev` keeps everything in, and the secrets inside it.

Somebody else on the machine must neither read it nor slip a link or a file of theirs under us: as
root we would hand a foreign file to the server's user, or write a key where others read it.
"""

import contextlib
import os
import stat
from pathlib import Path

from service.processes import StartError

_OPEN_TO_OTHERS = 0o022


def prepare_folder(path: Path) -> Path:
    """Makes the folder (mode 0700) if it is missing; returns its real, absolute path.

    Raises StartError when it is not ours alone to write.
    """
    try:
        real = path.expanduser().resolve()
        real.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            real.mkdir(mode=0o700)
        _check_ours(real)
        with os.scandir(real):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: a ring of links
        raise _cannot_use(path, getattr(error, "strerror", None) or str(error)) from error
    if not os.access(real, os.W_OK | os.X_OK) or os.statvfs(real).f_flag & os.ST_RDONLY:
        raise _cannot_use(path, "not writable")
    return real


def prepare_subfolder(folder: Path, name: str, uid: int, gid: int) -> Path:
    """A folder of mode 0700 for a server's user inside our own folder; StartError if it is odd."""
    path = folder / name
    try:
        path.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(path, uid, gid, follow_symlinks=False)
    except FileExistsError:
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise StartError(
            f"{path} should be a folder of mode 0700 that belongs to user {uid}, and is not: "
            "start as the user who started Leadlog here before, or move it away."
        )
    return path


def read_secret(path: Path) -> str | None:
    """What `write_secret` wrote; None if there is no file; StartError if others may read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"{path} cannot be read ({error.strerror}): move it away.") from error
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise StartError(f"{path} is not a file of ours: move it away.")
        if found.st_mode & 0o077:
            raise StartError(
                f"{path} can be read by others: replace what it holds if they may have seen it, "
                f"then run chmod 600 {path}."
            )
        return file.read().strip()


def write_secret(path: Path, text: str) -> None:
    """Puts one line into a file of mode 0600, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


def _check_ours(real: Path) -> None:
    found = real.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise _cannot_use(real, "not a folder")
    if found.st_uid != os.geteuid():
        raise _cannot_use(real, "it belongs to another user")
    if found.st_mode & _OPEN_TO_OTHERS:
        raise _cannot_use(real, "others may write in it")


def _cannot_use(path: Path, reason: str) -> StartError:
    return StartError(
        f"The data folder {path} cannot be used ({reason}): "
        "set DATA_DIR to a folder that you alone can write."
    )
