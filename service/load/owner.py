"""The owner of the work that the current task does, for fair shares between owners."""

from collections.abc import Hashable
from contextvars import ContextVar
from functools import lru_cache
from ipaddress import ip_network

OWNER: ContextVar[Hashable] = ContextVar("owner", default=None)
"""The caller of a request; None for work that belongs to no single caller, such as a batch."""
MOST_KEYS = 10_000
IPV6_NETWORK_BITS = 64
"""One customer of a provider has a network of this size, so its addresses count as one."""


class KnownKeys:
    """Authorization headers that were found to hold a valid key, and the id of that key.

    A caller that makes up keys must not get a share for each of them. Headers are kept as their
    `hash()` only: 64 bits of SipHash with a secret that each process draws at its start.
    """

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}

    def add(self, header: bytes, key_id: str) -> None:
        """Remember a header; if the limit is reached, forget the oldest one."""
        self._ids.pop(hash(header), None)
        if len(self._ids) >= MOST_KEYS:
            del self._ids[next(iter(self._ids))]
        self._ids[hash(header)] = key_id

    def discard(self, header: bytes) -> None:
        """Forget a header whose key is not valid any more."""
        self._ids.pop(hash(header), None)

    def find(self, header: bytes) -> str | None:
        """The id of the key; None if it is not known to be valid."""
        return self._ids.get(hash(header))


@lru_cache(maxsize=4096)
def find_network(host: str) -> str:
    """The address that a share belongs to: an IPv4 address or an IPv6 network."""
    if ":" not in host:
        return host
    try:
        return str(ip_network(f"{host.partition('%')[0]}/{IPV6_NETWORK_BITS}", strict=False))
    except ValueError:
        return host
