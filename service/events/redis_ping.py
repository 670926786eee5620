"""Check whether Redis can be used, and describe its faults."""

from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

CHECK_TIMEOUT_S = 3.0


def describe_redis(url: str) -> str:
    """Return the address of Redis without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def describe_error(error: Exception) -> str:
    """Return the error's message, or its type if there is none, to go into a sentence."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def describe_outage(url: str, fault: str) -> str:
    """Return a sentence for the log about a fault of Redis."""
    return (
        f"Redis on {describe_redis(url)} cannot be used ({fault}): wake-ups take longer and CRM "
        "streams stand still until it can."
    )


async def find_redis_fault(url: str) -> str | None:
    """Return the reason why Redis cannot be used, or None if it responds to a PING."""
    client = Redis.from_url(
        url, socket_timeout=CHECK_TIMEOUT_S, socket_connect_timeout=CHECK_TIMEOUT_S
    )
    try:
        await client.ping()
    except (OSError, RedisError) as error:
        return describe_error(error)
    finally:
        await client.aclose()
    return None
