"""Starts a program that ends when its parent process dies.

`python launch.py PARENT SIGNAL UID GID PROGRAM ARGUMENT…` asks the kernel to send SIGNAL when
PARENT dies, changes to the given user and then executes the program. This is a separate program
because code between fork and exec (`preexec_fn`) may deadlock if the parent has threads. It runs
without site-packages: standard library only.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
LINUX = sys.platform == "linux"


def bind_to_parent(with_signal: signal.Signals, parent: int | None = None) -> None:
    """Makes the kernel send this signal to this process when its parent dies; Linux only.

    `parent`: the parent's process id, if known. If that parent has died before the call, this
    process already has another parent, and sends the signal to itself.
    """
    parent = parent or os.getppid()
    if LINUX and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(with_signal)) != 0:
        raise OSError("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), with_signal)


def build_command(
    argv: Sequence[str], with_signal: signal.Signals, user: tuple[int, int] | None = None
) -> list[str]:
    """The command line that runs `argv` bound to this process, as the user (uid, gid) if given."""
    uid, gid = user or (os.geteuid(), os.getegid())
    numbers = (os.getpid(), int(with_signal), uid, gid)
    return [sys.executable, "-I", "-S", __file__, *map(str, numbers), *argv]


def execute(
    parent: int, with_signal: signal.Signals, user: tuple[int, int], argv: list[str]
) -> None:
    """Replaces this process by the program; does not return."""
    if os.geteuid() != user[0]:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])
    bind_to_parent(with_signal, parent)  # after setuid, which clears the request
    os.execv(argv[0], argv)  # noqa: S606


if __name__ == "__main__":
    _parent, _signal, _uid, _gid = map(int, sys.argv[1:5])
    execute(_parent, signal.Signals(_signal), (_uid, _gid), sys.argv[5:])
