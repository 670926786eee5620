"""The short program between us and a server: `python launch.py UID GID PROGRAM ARGUMENT…`.

It gives up root, binds the server's life to ours, and becomes the server. A program of its own,
since code between fork and exec (`preexec_fn`) may deadlock where the parent has threads. It runs
without site-packages: standard library only.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
LINUX = sys.platform == "linux"


def bind_to_parent(with_signal: signal.Signals) -> None:
    """Has the kernel send us this signal when the process that started us dies; Linux only."""
    parent = os.getppid()
    if LINUX and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(with_signal)) != 0:
        raise OSError("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), with_signal)


def build_command(uid: int, gid: int, argv: Sequence[str]) -> list[str]:
    """The command line that runs this program before `argv`."""
    return [sys.executable, "-I", "-S", __file__, str(uid), str(gid), *argv]


def become_server(uid: int, gid: int, argv: list[str]) -> None:
    """Does not return."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After setuid, which forgets it. SIGINT is PostgreSQL's fast shutdown; Valkey obeys it too.
    bind_to_parent(signal.SIGINT)
    os.execv(argv[0], argv)  # noqa: S606


if __name__ == "__main__":
    become_server(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
