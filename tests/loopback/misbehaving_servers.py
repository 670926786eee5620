"""Misbehaving webhook receivers; each is a real server on loopback."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def run_server(behave: Behave, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Runs a server that reads the head of a request and then calls `behave`; yields its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await behave(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{port}/"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def write(*parts: bytes, pause_s: float = 0.0, hold: bool = False) -> Behave:
    """Writes these parts, then closes the connection or holds it open."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if hold:
            await asyncio.sleep(60)

    return behave


def drip(head: bytes, pause_s: float = 0.1) -> Behave:
    """Writes a byte each `pause_s`, for ever."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(pause_s)

    return behave


async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Writes a gigabyte as fast as it is read."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    for _n in range(1024):
        writer.write(b"x" * 1048576)
        await writer.drain()


def repeat(head: bytes, more: bytes) -> Behave:
    """Writes `more` again and again, as fast as it is read."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(more)
            await writer.drain()

    return behave


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(50_000_000))
MANY_HEADERS = b"".join(b"X-%d: y\r\n" % n for n in range(10_000))
MISBEHAVIOURS: dict[str, tuple[Behave, int | None, str | None]] = {
    # The behaviour, and the status and error of the attempt.
    "hangs before its head": (write(hold=True), None, "timeout"),
    "sends its head byte by byte": (drip(HEAD + b"X: "), None, "timeout"),
    "sends a byte of its head every ten seconds": (drip(HEAD + b"X: ", 10), None, "timeout"),
    "sends 200, then a byte every ten seconds": (
        drip(HEAD + b"Content-Length: 99999\r\n\r\n", 10),
        200,
        None,
    ),
    "sends 200, then drips for ever": (drip(HEAD + b"Content-Length: 99999\r\n\r\n"), 200, None),
    "sends 500, then drips for ever": (
        drip(b"HTTP/1.1 500 No\r\nContent-Length: 99999\r\n\r\n"),
        500,
        "timeout",
    ),
    "sends a gigabyte": (flood, 200, None),
    "sends a gzip bomb": (
        write(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        200,
        None,
    ),
    "closes within the body": (write(HEAD + b"Content-Length: 10\r\n\r\nabc"), 200, None),
    "closes within the head": (write(b"HTTP/1.1 200 O"), None, "connection_lost"),
    "closes without a byte": (write(), None, "connection_lost"),
    "resets": (reset, None, "connection_lost"),
    "sends less than its Content-Length and stays open": (
        write(HEAD + b"Content-Length: 1000\r\n\r\nabc", hold=True),
        200,
        None,
    ),
    "sends 10,000 headers": (write(HEAD + MANY_HEADERS + b"\r\n"), None, "invalid_response"),
    "sends a header of a megabyte": (
        write(HEAD + b"X: " + b"y" * 2**20 + b"\r\n\r\n"),
        None,
        "invalid_response",
    ),
    "sends a trailer without end": (
        repeat(CHUNKED + b"0\r\nX: ", b"y" * 65536),
        None,
        "invalid_response",
    ),
    "sends a chunk extension without end": (
        repeat(CHUNKED + b"5;x=", b"y" * 65536),
        None,
        "invalid_response",
    ),
    "extends each of its chunks": (
        repeat(CHUNKED, b"1;" + b"y" * 1000 + b"\r\na\r\n"),
        None,
        "invalid_response",
    ),
    "sends a full body in chunks of one byte": (
        write(CHUNKED + b"1\r\na\r\n" * 16384 + b"0\r\n\r\n"),
        200,
        None,
    ),
    "speaks HTTP/1.0": (write(b"HTTP/1.0 200 OK\r\n\r\nfine"), 200, None),
    "sends a reason outside ASCII": (
        write("HTTP/1.1 200 Schön\r\n".encode() + b"Content-Length: 0\r\n\r\n"),
        200,
        None,
    ),
    "sends a header that is not UTF-8": (
        write(HEAD + b"X: \xff\xfe\r\nContent-Length: 0\r\n\r\n"),
        200,
        None,
    ),
    "sends 100 first": (
        write(b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"Content-Length: 0\r\n\r\n"),
        200,
        None,
    ),
    "speaks no HTTP": (write(b"SSH-2.0-OpenSSH_9.9\r\n"), None, "invalid_response"),
    "sends bad chunks": (
        write(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        None,
        "invalid_response",
    ),
    "sends 500 at once": (write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), 500, "status"),
    **{
        f"sends 429 with Retry-After {text or 'empty'}": (
            write(f"HTTP/1.1 429 No\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n".encode()),
            429,
            "status",
        )
        for text in (
            "1",
            "0.5",
            "-5",
            "1e309",
            "99999999999",
            "soon",
            "",
            "Wed, 21 Oct 9999 07:28:00 GMT",
        )
    },
    "upgrades to something else": (
        write(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        101,
        "status",
    ),
}
