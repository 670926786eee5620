"""Logs that a dependency is away, once and then every minute, and that it is back."""

import math
import time
from collections.abc import Callable

from service.telemetry.logging import get_logger

REPEAT_AFTER_S = 60.0
NEW_REASON_AFTER_S = 5.0
"""The pause between two lines if the reason keeps changing, as during a migration."""
log = get_logger("outages")


class OutageLog:
    """The state of a dependency such as `database`; logs `database.away` and `database.back`."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._away, self._back = f"{name}.away", f"{name}.back"
        self._clock = clock
        self._since: float | None = None
        self._logged_reason = ""
        self._logged_at = -math.inf

    def report_away(self, reason: str) -> None:
        """Report that the dependency cannot be used; `reason` is a sentence.

        A new reason is logged sooner than a repeated one.
        """
        now = self._clock()
        self._since = now if self._since is None else self._since
        pause_s = REPEAT_AFTER_S if reason == self._logged_reason else NEW_REASON_AFTER_S
        if now - self._logged_at >= pause_s:
            self._logged_reason, self._logged_at = reason, now
            log.error(self._away, reason=reason, for_s=round(now - self._since, 1))

    def report_back(self) -> None:
        """Report that the dependency can be used; log it if the dependency was away before."""
        if self._since is not None:
            log.info(self._back, after_s=round(self._clock() - self._since, 1))
        self._since, self._logged_reason, self._logged_at = None, "", -math.inf
