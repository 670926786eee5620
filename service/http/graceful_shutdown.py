"""The end of a serving process, in order: not ready, no new connections, no more requests.

At SIGTERM uvicorn stops accepting connections, lets requests finish and ends the app. A grace
period precedes this: /health/ready is 503 and all requests are still served, so that a load
balancer can stop using the process. At the end of the period the long polls get their responses.
"""

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

from service.telemetry.logging import get_logger

log = get_logger("shutdown")


class GracefulShutdown:
    """The grace period of this process."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self.has_begun = False

    def catch_signal(self, close: Callable[[], None]) -> None:
        """Begin the grace period at SIGTERM; at its end call `close` and stop the server.

        A second SIGTERM ends the grace period. The server restores the previous handler when it
        ends.
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
            log.info("shutdown.begun", grace_s=self._grace_s)
            loop.call_later(self._grace_s, stop)

        def handle(_signal: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(begin)

        signal.signal(signal.SIGTERM, handle)
