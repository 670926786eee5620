"""The guard on every connection to a webhook: no address of ours or of a private network.

The socket factory sees the address of every dial, however it was written or found out, so it
decides; the resolver refuses a name of which any answer is forbidden, which gives the clearer
error. The connection goes to the very address that was checked, so a name that changes its answer
in between gains nothing.
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

from service.webhooks.targets import is_allowed_address
from workers.delivery.places import Origin
from workers.delivery.wire import Wire

CONNECT_TIMEOUT_S = 5.0
"""For TCP, and again for TLS."""
NEXT_ADDRESS_S = 0.25
DNS_CACHE_S = 60.0
MAX_KNOWN_NAMES = 2000
RESOLVER_THREADS = 32
"""A name server that hangs holds one for seconds; asyncio's own pool would be full with six."""


class BlockedDialError(OSError):
    """The connection would go where none may go."""


class UnknownNameError(OSError):
    """There is no such name, or nobody could say."""


class DialError(OSError):
    """No address of the name took the connection."""


class DialTimeoutError(TimeoutError):
    """TCP or TLS was not ready in time."""


class DialTimes(Protocol):
    """Where a dial writes down what it took, also if it fails."""

    dns_ms: float | None
    connect_ms: float | None


class GuardedResolver:
    """Looks names up and refuses those with a forbidden address among their answers."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, "resolver")

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """As from getaddrinfo. Raises BlockedDialError or UnknownNameError."""
        found = await self.look_up(host, port)
        for info in found:
            if not is_allowed_address(str(info[4][0]), private=self._private):
                raise BlockedDialError(f"{host} resolves to a private or reserved address")
        return found

    async def look_up(self, host: str, port: int) -> list[AddrInfoType]:
        """All addresses of a name, from the system's resolver."""
        loop = asyncio.get_running_loop()
        with suppress(OSError, UnicodeError):  # an address in any spelling needs no thread
            return _ask_system(host, port, socket.AI_NUMERICHOST)
        try:
            return await loop.run_in_executor(self._threads, _ask_system, host, port)
        except (OSError, UnicodeError) as error:  # the latter: no name can look like that
            raise UnknownNameError(f"{host}: {error}") from error

    def close(self) -> None:
        """Leaves hung look-ups to end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _ask_system(host: str, port: int, flags: int = 0) -> list[AddrInfoType]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


class GuardedSockets:
    """Makes the socket of every dial, if its address may be dialled."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    def __call__(self, info: AddrInfoType) -> socket.socket:
        """`info` as from getaddrinfo. Raises BlockedDialError."""
        family, kind, protocol, _, address = info
        if not is_allowed_address(str(address[0]), private=self._private):
            raise BlockedDialError(f"{address[0]} is a private or reserved address")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


@cache
def make_tls_context() -> ssl.SSLContext:
    """Verifies certificates and their names. Reading the authorities' takes 20 ms, so once."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens connections that keep to the guard. One look-up of a name serves all who wait for it.

    A certificate must be valid for the URL's host.
    """

    def __init__(self, *, private: bool, resolver: GuardedResolver | None = None) -> None:
        self._resolver = resolver or GuardedResolver(private=private)
        self._sockets = GuardedSockets(private=private)
        self._tls = make_tls_context()
        self._known: dict[tuple[str, int], tuple[float, asyncio.Task[list[AddrInfoType]]]] = {}

    async def dial(self, origin: Origin, times: DialTimes) -> Wire:
        """Raises one of the OSErrors above, or ssl.SSLError."""
        begun = time.perf_counter()
        addresses = await self._resolve(origin.host, origin.port)
        resolved = time.perf_counter()
        times.dns_ms = (resolved - begun) * 1000
        connected: Any = None
        try:
            connected = await self._connect(addresses)
            wire = await self._make_wire(connected, origin)
            connected = None
        finally:
            if connected is not None:
                connected.close()
        times.connect_ms = (time.perf_counter() - resolved) * 1000
        return wire

    def close(self) -> None:
        """No more dials."""
        self._resolver.close()

    async def _connect(self, addresses: list[AddrInfoType]) -> socket.socket:
        try:
            async with _limit_time():
                return await start_connection(
                    addresses, happy_eyeballs_delay=NEXT_ADDRESS_S, interleave=1,
                    socket_factory=self._sockets,
                )  # fmt: skip
        except (BlockedDialError, DialTimeoutError):
            raise
        except OSError as error:
            raise DialError(str(error)) from error

    async def _make_wire(self, connected: socket.socket, origin: Origin) -> Wire:
        loop = asyncio.get_running_loop()
        name = origin.host.rstrip(".") if origin.tls else None
        async with _limit_time():
            _, wire = await loop.create_connection(
                lambda: Wire(origin), sock=connected, ssl=self._tls if origin.tls else None,
                server_hostname=name,
            )  # fmt: skip
        return wire

    async def _resolve(self, host: str, port: int) -> list[AddrInfoType]:
        now = time.monotonic()
        until, asking = self._known.get((host, port), (0.0, None))
        if asking is None or until < now:
            if len(self._known) > MAX_KNOWN_NAMES:
                self._known = {key: known for key, known in self._known.items() if known[0] >= now}
            asking = asyncio.create_task(self._resolver.resolve(host, port))
            self._known[host, port] = (now + DNS_CACHE_S, asking)
            asking.add_done_callback(lambda asked: self._forget_failed(host, port, asked))
        return await asyncio.shield(asking)  # one who gives up leaves it to the others

    def _forget_failed(self, host: str, port: int, asked: asyncio.Task[list[AddrInfoType]]) -> None:
        if asked.cancelled() or asked.exception() is not None:
            self._known.pop((host, port), None)


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
