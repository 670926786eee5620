"""Check whether Redis can be used, and describe its faults."""

from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, InvalidResponse, RedisError, ResponseError

from sql import errors

CHECK_TIMEOUT_S = 3.0


def describe_redis(url: str) -> str:
    """Return the address of Redis without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def describe_error(error: Exception) -> str:
    """Return the reason of an error of the client, to go into a sentence."""
    if isinstance(error, InvalidResponse):
        return "the server there does not speak the protocol of Redis"
    return errors.describe_error(error)


def explain_error(url: str, error: Exception) -> str:
    """Return a sentence for the user of a command: which Redis, the reason, and what to do."""
    advice = "check REDIS_URL and that Redis or Valkey is running there"
    if isinstance(error, (AuthenticationError, ResponseError)):  # such as a number without database
        advice = "correct user, password and options in REDIS_URL"
    return f"Redis on {describe_redis(url)} cannot be used ({describe_error(error)}): {advice}."


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
