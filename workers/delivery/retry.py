"""What follows from an answer, or from none: done, again later, or never (pure).

The budget of retries is time, not a number: an endpoint that asks for patience (429, 503 with
Retry-After) does not use it up, nor does one that is paused or disabled; see
sql/migrations/0130_webhook_budget.sql.
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
"""What a Retry-After may ask for."""
JITTER, MIN_JITTER_S = 0.25, 2.0
MAX_FREE_RETRIES = 1000
"""So often a delivery may be asked to wait; then it counts as any failure does, and so ends."""
THROTTLED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
FINAL_ERRORS = frozenset({"blocked_address", "invalid_url"})
"""No retry mends these; they are shown, and the endpoint's owner must act."""

ASKED = "it asked for that"


class Profile(msgspec.Struct, frozen=True):
    """Delays after the first, second, … failed attempt (the last one repeats), and the budget."""

    delays_s: tuple[float, ...]
    budget_s: float


_STANDARD = (
    5.0, 30.0, 2 * MINUTE_S, 10 * MINUTE_S, 30 * MINUTE_S, HOUR_S, 2 * HOUR_S, 4 * HOUR_S,
    8 * HOUR_S, 12 * HOUR_S, 16 * HOUR_S, 24 * HOUR_S,
)  # fmt: skip
PROFILES = {
    "fast": Profile((2.0, 5.0, 15.0, 30.0, MINUTE_S, 2 * MINUTE_S, 4 * MINUTE_S), 15 * MINUTE_S),
    "standard": Profile(_STANDARD, 72 * HOUR_S),
    "long": Profile(_STANDARD, 192 * HOUR_S),
}


class Answer(msgspec.Struct, frozen=True):
    """How an attempt ended. `error` is null for 2xx, else a short name of what went wrong."""

    status: int | None
    error: str | None
    retry_after: str | None = None
    control: str | None = None
    """The header `webhook-delivery`: abort-message or disable."""


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a delivery, and of its lane."""

    outcome: Literal["delivered", "failed", "retry"]
    due_in_s: float = 0.0
    budget_s: float = 0.0
    """Seconds that are left of the budget; only with `retry`."""
    pause_lane_s: float = 0.0
    """Costs no delivery of the lane its budget."""
    disable: str | None = None
    """Why the endpoint gets nothing more until its owner enables it."""


def judge(
    answer: Answer, profile: Profile, attempts: int, left_s: float | None, now: datetime
) -> Verdict:
    """`attempts` counts this one; `left_s` is what is left of the budget, None if untouched."""
    if answer.error is None:
        return Verdict("delivered", disable=ASKED if answer.control == "disable" else None)
    left_s = profile.budget_s if left_s is None else left_s
    if answer.status == HTTPStatus.GONE or answer.control == "disable":
        reason = "it answered 410" if answer.status == HTTPStatus.GONE else ASKED
        return Verdict("retry", budget_s=left_s, disable=reason)
    if answer.error in FINAL_ERRORS or answer.control == "abort-message":
        return Verdict("failed")
    asked_s = parse_retry_after(answer.retry_after, now) if answer.status in THROTTLED else None
    pause_s = asked_s or 0.0
    if asked_s is not None and attempts <= MAX_FREE_RETRIES:
        return Verdict("retry", pause_s, left_s, pause_lane_s=pause_s)
    if left_s <= 0:
        return Verdict("failed", pause_lane_s=pause_s)
    due_in_s = min(_find_delay(profile, attempts), left_s)
    return Verdict("retry", due_in_s, left_s, pause_lane_s=pause_s)


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Seconds within bounds, from seconds or an HTTP date; None if it is neither."""
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
