"""Ctrl-C while modules are loaded: nothing has begun yet, so the process ends at once.

A KeyboardInterrupt is not enough: it prints a traceback if nothing catches it, and it is lost if it
is raised while Python releases the lock of a module.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 130


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Ends the process quietly on SIGINT; an ignored SIGINT stays ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda _signal, _frame: os._exit(EXIT_CODE))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
