"""Errors of servers in words. A module of its own because it must be cheap to import."""

import os
import re
import socket
from collections.abc import Iterator

_ERRNO = re.compile(r"\[Errno (\d+)\]")


class DatabaseError(Exception):
    """The database cannot be used. The message is one sentence: the reason, and what to do."""


def describe_error(error: BaseException) -> str:
    """Return the reason of an error in words that fit into parentheses.

    Clients wrap the error of the system and add numbers and addresses to it. The error of the
    system says more: `Connection refused`.
    """
    for cause in reversed(list(_list_causes(error))):
        if isinstance(cause, OSError) and (words := _describe_os_error(cause)):
            return words
    text = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return text or ("no response in time" if isinstance(error, TimeoutError) else _name(error))


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _describe_os_error(error: OSError) -> str | None:
    """Return the system's words for the error; None if it is not an error of the system."""
    if isinstance(error, socket.gaierror):
        return error.strerror
    reason = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    if isinstance(reason, str):  # ssl.SSLError, without an import of ssl
        return f"TLS failed: {reason.replace('_', ' ').lower()}"
    if match := _ERRNO.search(str(error)):  # several addresses, such as those of localhost
        return os.strerror(int(match[1]))
    return None if error.errno is None else os.strerror(error.errno)


def _name(error: BaseException) -> str:
    return type(error).__name__
