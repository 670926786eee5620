"""Finds faults in DATABASE_URL and REDIS_URL; a fault never contains a part of the address."""

import os
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qs, urlsplit

MAX_PORT = 65535
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
_SESSION_ATTRIBUTES = {"any", "primary", "standby", "read-write", "read-only", "prefer-standby"}
_FILE_OPTIONS = {
    "sslrootcert", "sslcert", "sslkey", "sslcrl", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile",
}  # fmt: skip
"""Options of both kinds of addresses whose value is the path of a file."""
_BAD_PORT = "has a port that is not a number from 1 to 65535"


def find_database_url_fault(text: str) -> str | None:
    """Find a fault of the address, worded to follow its name; None if there is none."""
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that do not match
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in {"postgresql", "postgres"} or text[len(parts.scheme) :][:3] != "://":
        return "must be an address that begins with postgresql:// or postgres://"
    user, _, _ = parts.netloc.rpartition("@")
    if "@" in (user or parts.path):
        return "must have the special characters of the password percent-encoded (@ as %40)"
    return _find_host_fault(parts) or _find_option_fault(parts)


def _find_host_fault(parts: SplitResult) -> str | None:
    hosts = parts.netloc.rpartition("@")[2].split(",")  # several servers, each with a port
    if len(hosts) > 1 and "" in hosts:
        return "has a comma without a host beside it"
    ports = [port for host in hosts if (port := _find_port(host))]
    return None if all(_is_port(port) for port in ports) else _BAD_PORT


def _find_option_fault(parts: SplitResult) -> str | None:
    try:
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return "has an option after the ? without a value"
    ports = [port for value in options.get("port", []) for port in value.split(",")]
    if not all(_is_port(port) for port in ports if port):
        return _BAD_PORT
    if not _SSL_MODES.issuperset(options.get("sslmode", [])):
        return f"has an sslmode other than {', '.join(sorted(_SSL_MODES))}"
    if not _SESSION_ATTRIBUTES.issuperset(options.get("target_session_attrs", [])):
        shown = ", ".join(sorted(_SESSION_ATTRIBUTES))
        return f"has target_session_attrs other than {shown}"
    return _find_file_fault(options)


def _find_file_fault(options: Mapping[str, list[str]]) -> str | None:
    for name in sorted(_FILE_OPTIONS & options.keys()):
        if not all(os.access(path, os.R_OK) for path in options[name]):
            return f"has the option {name} with a file that cannot be read"
    return None


def find_redis_url_fault(text: str) -> str | None:
    """As find_database_url_fault, for Redis; an option that the client refuses is a fault too."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in {"redis", "rediss", "unix"}:
        return "must be an address that begins with redis:// or rediss:// or unix://"
    if parts.scheme == "unix":
        if parts.path in {"", "/"}:
            return "must have the path of a socket after unix://"
    elif (port := _find_port(parts.netloc.rpartition("@")[2])) and not _is_port(port):
        return _BAD_PORT
    elif parts.path.strip("/") and not _is_number(parts.path.strip("/")):
        return "must end with the number of a database after the /, or without a path"
    return _find_client_fault(text) or _find_file_fault(parse_qs(parts.query))


def _find_client_fault(text: str) -> str | None:
    """Find a fault of the options by making a connection object: the client checks them there."""
    from redis.asyncio import ConnectionPool  # noqa: PLC0415  # keeps `leadlog --help` quick
    from redis.exceptions import RedisError  # noqa: PLC0415

    try:
        pool = ConnectionPool.from_url(text)
        pool.connection_class(**pool.connection_kwargs)
    except (AttributeError, LookupError, NameError, TypeError, ValueError, RedisError):
        return "has an option after the ? that does not exist or has a value of another kind"
    return None


def _find_port(host: str) -> str | None:
    """The text after the colon; the colons of an IPv6 address are in brackets."""
    _, colon, port = host.rpartition("]")[2].rpartition(":")
    return port if colon else None


def _is_port(text: str) -> bool:
    return _is_number(text) and 1 <= int(text) <= MAX_PORT


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_PORT))
