"""The objects that live as long as the process, for use by every request."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from service.access.authentication import Authenticator
from service.database.connect import Pool
from service.database.hidden_numbers import HiddenNumbers
from service.events.long_poll import LongPollNotifier
from service.events.wake_ups import Wakeups
from service.http.deadlines import Deadlines
from service.http.graceful_shutdown import GracefulShutdown
from service.http.responses import StaticPage
from service.leads.search.lead_search import LeadSearch
from service.leads.store import LeadStore
from service.load.keyed_semaphore import KeyedSemaphore
from service.rate_limits.limiter import Limiter
from service.settings import Settings
from service.telemetry.metrics_server import MetricsPage

KeyOwner: TypeAlias = tuple[int, bool, str]
"""Tenant, mode, and the digest of route and Idempotency-Key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The shared objects of the process."""

    settings: Settings
    pool: Pool
    batched_pool: Pool
    """The pool for batches, key look-ups and health checks, which must not wait behind lists."""
    auth: Authenticator
    limiter: Limiter
    leads: LeadStore
    search: LeadSearch
    whole_lists: KeyedSemaphore
    """Per tenant: lists that have no pages (up to 5 MB) are read one at a time."""
    wakeups: Wakeups
    long_polls: LongPollNotifier
    numbers: HiddenNumbers
    openapi: bytes
    find_page: Callable[[str], Awaitable[StaticPage]]
    """Finds a page of /docs by its path."""
    shutdown: GracefulShutdown
    deadlines: Deadlines
    metrics: MetricsPage
    keys_in_flight: set[KeyOwner] = field(default_factory=set)
    """Idempotency keys of requests in progress in this process."""
