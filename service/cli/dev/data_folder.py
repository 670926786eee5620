"""The data folder of `leadlog dev`. Secrets in it: see `service/cli/secret_files.py`.

Other users must neither read it nor place a link or a file in it. Otherwise Leadlog as root might
give a foreign file to the servers' user, or write a key where others can read it.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from service.cli.processes import StartError

_OPEN_TO_OTHERS = 0o022
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def prepare_folder(path: Path) -> Path:
    """Creates the folder (mode 0700) if it is missing; returns its real, absolute path.

    Raises StartError if another user owns it or can write in it.
    """
    try:
        real = path.expanduser().resolve()
        real.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            real.mkdir(mode=0o700)
        _check_ours(real)
        with os.scandir(real):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise _cannot_use(path, getattr(error, "strerror", None) or str(error)) from error
    if not os.access(real, os.W_OK | os.X_OK) or os.statvfs(real).f_flag & os.ST_RDONLY:
        raise _cannot_use(path, "not writable")
    return real


def prepare_subfolder(folder: Path, name: str, uid: int, gid: int) -> Path:
    """Creates a folder of mode 0700 for the servers' user. Raises StartError if another owns it."""
    path = folder / name
    try:
        path.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(path, uid, gid, follow_symlinks=False)
    except FileExistsError:
        pass
    check_subfolder(path, uid)
    return path


@contextlib.contextmanager
def explain_file_errors(folder: Path) -> Iterator[None]:
    """Converts an error about a file in the data folder to a StartError with a remedy."""
    try:
        yield
    except OSError as error:
        name = str(error.filename2 or error.filename)  # a rename fails because of its target
        if not name.startswith(f"{folder}/"):
            raise
        remedy = "free disk space" if error.errno in _DISK_FULL else "move it away"
        raise StartError(
            f"{name} cannot be used ({error.strerror}): {remedy}, and start again."
        ) from error


def make_empty_folder(path: Path) -> Path:
    """Replaces anything at the path by an empty folder of mode 0700."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.mkdir(mode=0o700)
    return path


def check_subfolder(path: Path, uid: int) -> None:
    """Raises StartError if the path exists and is not a folder of this user with mode 0700."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise StartError(
            f"{path} should be a folder of mode 0700 that belongs to user {uid}, and is not: "
            "start as the user who started Leadlog here before, or move it away."
        )


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
