"""The end of `leadlog listen`: a signal, or a closed pipe (`leadlog listen | head -1`)."""

import asyncio
import os
import select
import signal
import sys

from service.cli.processes import StartError

POLL_S = 0.25
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """The end of a run. Create this object before a webhook is registered.

    Then a signal that arrives during the registration also ends the run gracefully, and the
    webhook is deleted.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._fault: str | None = None
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._end_on_signal)

    def end(self, fault: str | None = None) -> None:
        """Ends the run; with a fault, `wait` raises it."""
        self._fault = fault
        self._event.set()

    def _end_on_signal(self) -> None:
        """Ends gracefully; a second signal has its default effect and ends the process at once."""
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        self.end()

    async def wait(self) -> None:
        """Waits until `end` is called, a signal arrives or the reader of standard output ends.

        Raises StartError with the fault of `end`.
        """
        while not self._event.is_set():
            if not has_reader(sys.stdout.fileno()):
                discard_output()
                return
            try:
                async with asyncio.timeout(POLL_S):
                    await self._event.wait()
            except TimeoutError:
                continue
        if self._fault is not None:
            discard_output()
            raise StartError(self._fault)


def has_reader(descriptor: int) -> bool:
    """Whether the other end of a pipe is open; always true for a file."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return not poll.poll(0)


def discard_output() -> None:
    """Redirects standard output to the null device: Python would report a write error at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
