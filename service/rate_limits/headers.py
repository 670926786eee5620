"""Rate limits in responses: the headers of every response, and the 429 (pure)."""

from collections.abc import Sequence
from math import ceil, inf

from service.access.plans import DAY_S
from service.errors import RateLimited
from service.rate_limits.share import Share

Headers = list[tuple[bytes, bytes]]


def make_headers(shares: Sequence[Share]) -> Headers:
    """The X-RateLimit headers of the window with the fewest requests left."""
    tightest, remaining = None, inf
    for share in shares:
        if (left := share.remaining) < remaining and share.rule.span_s:
            tightest, remaining = share, left
    if tightest is None:
        return []
    return [*tightest.headers, (b"x-ratelimit-remaining", b"%d" % remaining)]


def make_refusal(share: Share, now: float) -> RateLimited:
    """Make the 429 for a request for which the share has no room."""
    rule = share.rule
    if rule.span_s:
        reset, wait_s = share.ends_at, max(ceil(share.ends_at - now), 1)
        span = "day" if rule.span_s == DAY_S else "minute"
        where = f" to {rule.name}" if " " in rule.name else ""
        message = (
            f"This key may make {rule.limit:,} requests per {span}{where}; "
            f"the next {span} begins in {wait_s} s."
        )
    else:
        reset, wait_s = ceil(now) + 1, 1
        message = f"This key may have {rule.limit:,} concurrent requests; wait for one to end."
    headers = {
        "Retry-After": str(wait_s),
        "X-RateLimit-Limit": str(rule.limit),
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": f"{reset:.0f}",
        "X-RateLimit-RetryAfter": str(wait_s),
    }
    return RateLimited(message, headers=headers)
