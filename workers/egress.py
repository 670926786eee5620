"""The guard on every connection to a webhook: no address of ours or of a private network.

A resolver alone is no guard: aiohttp does not ask it about IP addresses. The socket factory sees
the address of every dial, so it decides; the resolver refuses a name of which any answer is
forbidden, which gives the clearer error. The connection goes to the very address that was checked,
so a name that changes its answer in between gains nothing.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, TraceConfig
from aiohttp.abc import AbstractResolver, ResolveResult

from service.targets import is_allowed_address

CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 60.0
DNS_CACHE_S = 60
RESOLVER_THREADS = 32
"""A name server that hangs holds one for seconds; asyncio's own pool would be full with six."""
READ_BUFFER = 32 * 1024


class BlockedDialError(OSError):
    """The connection would go where none may go. An OSError, so that aiohttp takes it for one."""


class GuardedResolver(AbstractResolver):
    """Looks names up and refuses those with a forbidden address among their answers."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, "resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises BlockedDialError, or OSError if there is no such name."""
        found = await self.look_up(host, port, family)
        for answer in found:
            if not is_allowed_address(answer["host"], private=self._private):
                raise BlockedDialError(f"{host} resolves to a private or reserved address")
        return found

    async def look_up(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> list[ResolveResult]:
        """All addresses of a name, from the system's resolver."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, _ask_system, host, port, family
        )
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]  # fmt: skip

    async def close(self) -> None:
        """Leaves hung look-ups to end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _ask_system(host: str, port: int, family: socket.AddressFamily) -> Any:
    return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)


class GuardedSockets:
    """Makes the socket of every dial, if its address may be dialled."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    def __call__(self, info: tuple[Any, ...]) -> socket.socket:
        """`info` as from getaddrinfo. Raises BlockedDialError."""
        family, kind, protocol, _, address = info
        if not is_allowed_address(str(address[0]), private=self._private):
            raise BlockedDialError(f"{address[0]} is a private or reserved address")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def open_session(
    *, private: bool, resolver: AbstractResolver | None = None, traces: list[TraceConfig]
) -> ClientSession:
    """An HTTP client that keeps to the guard: no redirect, proxy, cookie or decompression."""
    connector = TCPConnector(
        limit=0,
        ttl_dns_cache=DNS_CACHE_S,
        keepalive_timeout=KEEPALIVE_S,
        resolver=resolver or GuardedResolver(private=private),
        socket_factory=GuardedSockets(private=private),
    )
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=READ_BUFFER,
        trace_configs=traces,
    )
