"""The guard on every connection to a webhook: no private or reserved address is dialled.

The socket factory checks the address of every dial, however it was written or resolved: this check
decides. The resolver refuses a name with any forbidden address, which gives the clearer error. The
connection goes to the address that was checked, so a name that changes its addresses in between
gains nothing.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any, Protocol

from aiohappyeyeballs import AddrInfoType, start_connection

from service.webhooks.url_policy import is_allowed_address
from workers.delivery.http_connection import HttpConnection
from workers.delivery.parsed_url import Origin

CONNECT_TIMEOUT_S = 5.0
"""The limit for TCP, and again for TLS."""
NEXT_ADDRESS_S = 0.25
DNS_CACHE_S = 60.0
MAX_CACHED_NAMES = 2000
RESOLVER_THREADS = 32
"""A name server that hangs holds a thread for seconds; six such names would fill asyncio's pool."""


class BlockedDialError(OSError):
    """The address is private or reserved."""


class UnknownNameError(OSError):
    """The name does not exist, or no name server responded."""


class DialError(OSError):
    """No address of the name accepted the connection."""


class DialTimeoutError(TimeoutError):
    """TCP or TLS was not ready in time."""


class DialTimes(Protocol):
    """Receives the durations of a dial, also of a failed dial."""

    dns_ms: float | None
    connect_ms: float | None


class GuardedResolver:
    """Resolves names and refuses a name that has any forbidden address."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, "resolver")

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """Addresses as from getaddrinfo. Raises BlockedDialError or UnknownNameError."""
        addresses = await self.look_up(host, port)
        for info in addresses:
            if not is_allowed_address(str(info[4][0]), private=self._private):
                raise BlockedDialError(f"{host} resolves to a private or reserved address")
        return addresses

    async def look_up(self, host: str, port: int) -> list[AddrInfoType]:
        """All addresses of a name, from the system's resolver. Raises UnknownNameError."""
        loop = asyncio.get_running_loop()
        with suppress(OSError, UnicodeError):  # a numeric address needs no thread
            return _call_getaddrinfo(host, port, socket.AI_NUMERICHOST)
        try:
            return await loop.run_in_executor(self._threads, _call_getaddrinfo, host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: the name is malformed
            raise UnknownNameError(f"{host}: {error}") from error

    def close(self) -> None:
        """Stops without waiting for look-ups that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _call_getaddrinfo(host: str, port: int, flags: int = 0) -> list[AddrInfoType]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


class GuardedSockets:
    """A socket factory that refuses forbidden addresses."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    def __call__(self, info: AddrInfoType) -> socket.socket:
        """A socket for an address as from getaddrinfo. Raises BlockedDialError."""
        family, kind, protocol, _, address = info
        if not is_allowed_address(str(address[0]), private=self._private):
            raise BlockedDialError(f"{address[0]} is a private or reserved address")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


@cache
def make_tls_context() -> ssl.SSLContext:
    """A context that verifies certificates and host names.

    Cached, since reading the system's certificate authorities takes 20 ms.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens guarded connections. Concurrent dials of one name share its look-up."""

    def __init__(self, *, private: bool, resolver: GuardedResolver | None = None) -> None:
        self._resolver = resolver or GuardedResolver(private=private)
        self._sockets = GuardedSockets(private=private)
        self._tls = make_tls_context()
        self._lookups: dict[tuple[str, int], tuple[float, asyncio.Task[list[AddrInfoType]]]] = {}

    async def dial(self, origin: Origin, times: DialTimes) -> HttpConnection:
        """A new connection. Raises one of the OSErrors above, or ssl.SSLError."""
        started_at = time.perf_counter()
        addresses = await self._resolve(origin.host, origin.port)
        resolved_at = time.perf_counter()
        times.dns_ms = (resolved_at - started_at) * 1000
        connected: Any = None
        try:
            connected = await self._connect(addresses)
            connection = await self._make_connection(connected, origin)
            connected = None
        finally:
            if connected is not None:
                connected.close()
        times.connect_ms = (time.perf_counter() - resolved_at) * 1000
        return connection

    def close(self) -> None:
        """Stops the resolver; no dial may follow."""
        self._resolver.close()

    async def _connect(self, addresses: list[AddrInfoType]) -> socket.socket:
        try:
            async with _limit_time():
                return await start_connection(
                    addresses,
                    happy_eyeballs_delay=NEXT_ADDRESS_S,
                    interleave=1,
                    socket_factory=self._sockets,
                )
        except (BlockedDialError, DialTimeoutError):
            raise
        except OSError as error:
            raise DialError(str(error)) from error

    async def _make_connection(self, connected: socket.socket, origin: Origin) -> HttpConnection:
        """The HTTP connection on a connected socket; TLS verifies the URL's host."""
        loop = asyncio.get_running_loop()
        async with _limit_time():
            _, connection = await loop.create_connection(
                lambda: HttpConnection(origin),
                sock=connected,
                ssl=self._tls if origin.tls else None,
                server_hostname=origin.host.rstrip(".") if origin.tls else None,
            )
        return connection

    async def _resolve(self, host: str, port: int) -> list[AddrInfoType]:
        now = time.monotonic()
        until, lookup = self._lookups.get((host, port), (0.0, None))
        if lookup is None or until < now:
            if len(self._lookups) > MAX_CACHED_NAMES:
                self._lookups = {key: kept for key, kept in self._lookups.items() if kept[0] >= now}
            lookup = asyncio.create_task(self._resolver.resolve(host, port))
            self._lookups[host, port] = (now + DNS_CACHE_S, lookup)
            lookup.add_done_callback(lambda done: self._forget_failed(host, port, done))
        return await asyncio.shield(lookup)  # a cancelled caller must not cancel it for the others

    def _forget_failed(self, host: str, port: int, done: asyncio.Task[list[AddrInfoType]]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._lookups.pop((host, port), None)


@asynccontextmanager
async def _limit_time() -> AsyncIterator[None]:
    limit = asyncio.timeout(CONNECT_TIMEOUT_S)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if limit.expired():
            raise DialTimeoutError from error
        raise
