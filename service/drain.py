"""The end of a serving process, in order: not ready, then no new connections, then the rest.

The server below (uvicorn) stops accepting at SIGTERM, lets requests finish and ends the app. We put
a grace before it, in which /health/ready says no and everything is still served, so that a load
balancer can take us out; and at its end we wake those who wait for events.
"""

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

from service.logs import get_logger

log = get_logger("drain")


class Drain:
    """Whether this process is about to end."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self.has_begun = False

    def catch_signal(self, close: Callable[[], None]) -> None:
        """SIGTERM begins the grace; at its end `close` is called and the server stops.

        A second one ends the grace. The server puts back the handler of before when it is done.
        """
        loop, stop_server = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

        def stop() -> None:
            close()
            if callable(stop_server):
                stop_server(signal.SIGTERM, None)

        def begin() -> None:
            if self.has_begun:
                stop()
                return
            self.has_begun = True
            log.info("drain.begun", grace_s=self._grace_s)
            loop.call_later(self._grace_s, stop)

        def hear(_signal: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(begin)

        signal.signal(signal.SIGTERM, hear)
