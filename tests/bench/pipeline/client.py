"""A keep-alive HTTP/1.1 client with one request at a time, of minimal cost."""

import asyncio
from typing import cast

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
LOST = 599
"""The status of a request whose connection was lost."""


class Connection(asyncio.Protocol):
    """Sends requests and returns their responses. A lost connection raises ConnectionError."""

    def __init__(self) -> None:
        self._got = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._got += data
        response = parse_response(self._got)
        if response is not None and self._waiting is not None:
            self._got = b""
            self._waiting.set_result(response)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of the response."""
        if self._transport is None:
            raise ConnectionResetError
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Client:
    """A connection that is opened again for the request after it was lost."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._conn: Connection | None = None

    async def open(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, self._conn = await loop.create_connection(Connection, *self._address)
        return self._conn

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of the response; LOST if the connection was lost."""
        try:
            return await (self._conn or await self.open()).ask(request)
        except OSError:
            self.close()
            return LOST, b""

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None


def parse_response(got: bytes) -> tuple[int, bytes] | None:
    """The status and the body; None if the response is not complete yet.

    Relies on Content-Length, which Leadlog sends with every response that has a body.
    """
    end = got.find(_HEAD_END)
    if end < 0:
        return None
    head = got[:end].lower()
    at = head.find(_LENGTH)
    length = int(head[at + len(_LENGTH) :].split(b"\r", 1)[0]) if at >= 0 else 0
    start = end + len(_HEAD_END)
    return (int(got[9:12]), got[start:]) if len(got) >= start + length else None


def make_request(method: str, path: str, key: str, repeat: str, body: bytes = b"") -> bytes:
    """The bytes of a request; `repeat` is its Idempotency-Key."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Authorization: Bearer {key}"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if method != "DELETE":
        lines.append(f"Idempotency-Key: {repeat}")
    return "\r\n".join(lines).encode() + _HEAD_END + body
