"""The URLs and addresses to which a webhook may go; no function here uses the network.

`ipaddress.is_global` is no protection: it is true for 64:ff9b::7f00:1, 2002:7f00:1:: and
::ffff:0:7f00:1, which embed 127.0.0.1, and for multicast addresses. Therefore IPv4 has an explicit
list of blocked networks. For IPv6, only global unicast is allowed, except the networks that embed
IPv4 addresses or serve documentation. (IANA's special-purpose registries, as of 2026.)
"""

import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit

import idna

MAX_URL_LENGTH = 2048
_LOWEST_FREE_PORT = 1024
_MAX_HOST_LENGTH = 253
_WEB_PORTS = frozenset({80, 443})
_BLOCKED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "168.63.129.16/32", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    )
)  # fmt: skip
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_BLOCKED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7",
    )
)  # fmt: skip
"""The networks that WEBHOOK_ALLOW_PRIVATE allows: this machine and private networks. Multicast and
the addresses where clouds serve their credentials stay blocked: most are link-local, and Alibaba's
100.100.100.200, Oracle's 192.0.0.192 and Azure's 168.63.129.16 are in _BLOCKED_V4."""
_CLOUD_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "fd00:ec2::/32", "fd20:ce::254/128", "fd00:c1::a9fe:a9fe/128", "fd00:42::42/128",
        "fd00:a9fe:a9fe::1/128",
    )
)  # fmt: skip
"""Private addresses where AWS, Google, Oracle, Scaleway and Linode serve credentials."""
_NUMERIC = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)\.?")
"""A host whose last label is a number. The C library would parse it as an address."""
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")


class TargetError(ValueError):
    """A URL or address to which no webhook may go. The message continues `url …`."""


class BlockedAddressError(TargetError):
    """An address in a network to which no webhook may go."""


def is_allowed_address(text: str, *, private: bool) -> bool:
    """Whether a webhook may connect to an IP address; `private` also allows private networks."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # for example an invalid scope id
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return False
    if private and any(address in network for network in _PRIVATE):
        return not any(address in network for network in _CLOUD_V6)
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _BLOCKED_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _BLOCKED_V6)


def check_url(url: str, *, private: bool) -> str:
    """Check the URL of a webhook and return its host. Raises TargetError."""
    if len(url) > MAX_URL_LENGTH:
        raise TargetError(f"may have at most {MAX_URL_LENGTH} characters")
    if any(c.isspace() or not c.isprintable() or c == "\\" for c in url):
        raise TargetError("must not hold spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetError("is not a URL") from None
    _check_parts(url, parts, private)
    _check_port(port, private)
    return _check_host(parts, private)


def _check_parts(url: str, parts: SplitResult, private: bool) -> None:
    if parts.scheme not in ({"https", "http"} if private else {"https"}):
        raise TargetError("must begin with https://" + (" or http://" if private else ""))
    if "@" in parts.netloc:
        raise TargetError("must not hold a user name or password")
    if "#" in url:
        raise TargetError("must not have a fragment (#…)")
    if not parts.hostname:
        raise TargetError("must name a host")


def _check_port(port: int | None, private: bool) -> None:
    if port is None or port in _WEB_PORTS or port >= (1 if private else _LOWEST_FREE_PORT):
        return
    raise TargetError(f"must not use port {port}; 443, 80 and those from 1024 on may be used")


def _check_host(parts: SplitResult, private: bool) -> str:
    host = (parts.hostname or "").lower()
    if "[" in parts.netloc:
        _check_literal(host, private)
        return host
    try:  # as workers/delivery/parsed_url.py does: full-width digits become digits
        host = idna.encode(host, uts46=True).decode() if not host.isascii() else host
    except idna.IDNAError:
        raise TargetError("does not name a valid host") from None
    if _NUMERIC.fullmatch(host):
        _check_numeric(host, private)
    elif len(host) > _MAX_HOST_LENGTH or not _HOST.fullmatch(host):
        raise TargetError("does not name a valid host")
    elif not private and (
        host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")
    ):
        raise BlockedAddressError("must not point at this machine")
    return host


def _check_numeric(host: str, private: bool) -> None:
    """Check a numeric host: an IPv4 address, or a form like 0x7f.1 that the C library accepts."""
    try:
        canonical = socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    except OSError:
        raise TargetError("does not name a valid host") from None
    if canonical != host:
        raise BlockedAddressError("must write an IP address as four decimal numbers")
    _check_literal(host, private)


def _check_literal(host: str, private: bool) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise TargetError("does not name a valid host") from None
    if not is_allowed_address(host, private=private):
        raise BlockedAddressError("must not point at a private or reserved address")
