"""A caller of the API: the requests of one key or of one address."""

from collections.abc import Hashable
from typing import TYPE_CHECKING

from service.load.wait_queue import WaitQueue

if TYPE_CHECKING:
    from service.load.load_shedder import LoadShedder

REFUSAL_DELAY_S, MAX_REFUSAL_DELAY_S = 0.1, 1.0
"""The bounds of the delay of a refusal. Without it, a client that retries at once would take the
time of admitted requests."""
REFUSALS_PER_S = 500
"""The delay grows with the caller's open requests, so that clients that retry at once get at most
this many refusals per second. The delay stops growing at MAX_REFUSAL_DELAY_S."""


class Caller:
    """The requests of one key, or those of one address that have no key known to be valid."""

    __slots__ = (
        "has_key",
        "name",
        "open",
        "period",
        "share_queue",
        "shedder",
        "unidentified",
        "working",
    )

    def __init__(self, shedder: "LoadShedder", name: Hashable, *, has_key: bool) -> None:
        self.shedder = shedder
        self.name = name
        """The id of the key, or the address."""
        self.has_key = has_key
        self.open = 0
        """Requests without a response; not those that wait for an event or for their client."""
        self.working = 0
        """Requests in progress, without those in `share_queue`."""
        self.share_queue: WaitQueue[None, None] | None = None
        """The queue of the requests beyond the share."""
        self.period = -1
        """The period of the caller's last request."""
        self.unidentified = 0
        """The caller's requests of this period that came without a key known to be valid."""

    @property
    def refusal_delay_s(self) -> float:
        """How long to delay a refusal, because of REFUSALS_PER_S."""
        return min(MAX_REFUSAL_DELAY_S, max(REFUSAL_DELAY_S, self.open / REFUSALS_PER_S))
