"""Decides what follows an attempt: delivered, retry later, or failed (pure).

The budget of retries is time, not a number. It is not used up while a receiver asks for a pause
(429 or 503 with Retry-After), nor while an endpoint is paused or disabled; see excused_time
in sql/migrations/0005_webhook.sql.
"""

import math
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal

import msgspec

MINUTE_S, HOUR_S = 60.0, 3600.0
MIN_PAUSE_S, MAX_PAUSE_S = 1.0, 6 * HOUR_S
"""The bounds of a pause that Retry-After asks for."""
JITTER, MIN_JITTER_S = 0.25, 2.0
MAX_FREE_RETRIES = 1000
"""After this number of attempts Retry-After uses up the budget too: every delivery must end."""
THROTTLED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
FINAL_ERRORS = frozenset({"blocked_address", "invalid_url"})
"""Retrying cannot repair these. The API shows them, and the endpoint's owner must act."""

RECEIVER_ASKED = "The receiver asked to be disabled."
RECEIVER_GONE = "The receiver responded 410 Gone."


class Profile(msgspec.Struct, frozen=True):
    """Delays after the first, second, … failed attempt (the last one repeats), and the budget."""

    delays_s: tuple[float, ...]
    budget_s: float


_STANDARD = (
    *(5.0, 30.0, 2 * MINUTE_S, 10 * MINUTE_S, 30 * MINUTE_S),
    *(hours * HOUR_S for hours in (1, 2, 4, 8, 12, 16, 24)),
)
PROFILES = {
    "fast": Profile((2.0, 5.0, 15.0, 30.0, MINUTE_S, 2 * MINUTE_S, 4 * MINUTE_S), 15 * MINUTE_S),
    "standard": Profile(_STANDARD, 72 * HOUR_S),
    "long": Profile(_STANDARD, 192 * HOUR_S),
}

MAX_DUE_IN_S = max(max(profile.delays_s) for profile in PROFILES.values()) * (1 + JITTER)
"""The longest delay of a retry."""


class AttemptResult(msgspec.Struct, frozen=True):
    """The facts of an attempt that decide what follows. `error` is a code, None for 2xx."""

    status: int | None
    error: str | None
    retry_after: str | None = None
    control: str | None = None
    """The header `webhook-delivery`: abort-message or disable."""


class Decision(msgspec.Struct, frozen=True):
    """What happens to a delivery, its lane and its endpoint after an attempt."""

    outcome: Literal["delivered", "failed", "retry"]
    due_in_s: float = 0.0
    budget_s: float = 0.0
    """The rest of the budget; only with `retry`."""
    pause_lane_s: float = 0.0
    """The pause that the receiver asked for; it uses up no delivery's budget."""
    disable: str | None = None
    """The reason to disable the endpoint; its owner can enable it again."""


def decide(
    result: AttemptResult, profile: Profile, attempts: int, left_s: float | None, now: datetime
) -> Decision:
    """Decides what follows the attempt with the number `attempts`.

    `left_s` is the rest of the budget of retries; None: no retry has used any of it.
    """
    if result.error is None:
        reason = RECEIVER_ASKED if result.control == "disable" else None
        return Decision("delivered", disable=reason)
    left_s = profile.budget_s if left_s is None else left_s
    if result.status == HTTPStatus.GONE or result.control == "disable":
        reason = RECEIVER_GONE if result.status == HTTPStatus.GONE else RECEIVER_ASKED
        return Decision("retry", budget_s=left_s, disable=reason)
    if result.error in FINAL_ERRORS or result.control == "abort-message":
        return Decision("failed")
    asked_s = parse_retry_after(result.retry_after, now) if result.status in THROTTLED else None
    pause_s = asked_s or 0.0
    if asked_s is not None and attempts <= MAX_FREE_RETRIES:
        return Decision("retry", pause_s, left_s, pause_lane_s=pause_s)
    if left_s <= 0:
        return Decision("failed", pause_lane_s=pause_s)
    due_in_s = min(_find_delay(profile, attempts), left_s)
    return Decision("retry", due_in_s, left_s, pause_lane_s=pause_s)


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Parses seconds or an HTTP date into seconds within the bounds; None if it is neither."""
    if text is None or len(text) > 100:  # noqa: PLR2004  # no date is that long
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, MIN_PAUSE_S), MAX_PAUSE_S)


def _find_delay(profile: Profile, attempts: int) -> float:
    delay_s = profile.delays_s[min(attempts, len(profile.delays_s)) - 1]
    return delay_s + random.uniform(0, max(delay_s * JITTER, MIN_JITTER_S))  # noqa: S311  # jitter
