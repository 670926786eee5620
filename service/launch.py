"""The short program between us and a process that must not outlive us.

`python launch.py PARENT SIGNAL UID GID PROGRAM ARGUMENT…` binds its life to its parent's, gives up
root where another user is named, and becomes the program. A program of its own, since code between
fork and exec (`preexec_fn`) may deadlock where the parent has threads. It runs without
site-packages: standard library only.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
LINUX = sys.platform == "linux"


def bind_to_parent(with_signal: signal.Signals, parent: int | None = None) -> None:
    """Has the kernel send us this signal when our parent dies; Linux only.

    Whoever knows the parent's number gives it: it may have died before we came here.
    """
    parent = parent or os.getppid()
    if LINUX and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(with_signal)) != 0:
        raise OSError("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), with_signal)


def build_command(
    argv: Sequence[str], with_signal: signal.Signals, user: tuple[int, int] | None = None
) -> list[str]:
    """The command line that runs `argv` bound to us, as the user (uid, gid) if one is given."""
    uid, gid = user or (os.geteuid(), os.getegid())
    numbers = (os.getpid(), int(with_signal), uid, gid)
    return [sys.executable, "-I", "-S", __file__, *map(str, numbers), *argv]


def become(
    parent: int, with_signal: signal.Signals, user: tuple[int, int], argv: list[str]
) -> None:
    """Does not return."""
    if os.geteuid() != user[0]:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])
    bind_to_parent(with_signal, parent)  # after setuid, which forgets it
    os.execv(argv[0], argv)  # noqa: S606


if __name__ == "__main__":
    _parent, _signal, _uid, _gid = map(int, sys.argv[1:5])
    become(_parent, signal.Signals(_signal), (_uid, _gid), sys.argv[5:])
