"""Raw HTTP/1.1 over a socket, for requests that a client library would never send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class RawResponse:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


class RawConnection:
    """A client connection that sends bytes and parses responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def send_eof(self) -> None:
        """Shuts the sending side down; responses can still be read."""
        self._writer.write_eof()

    async def read_response(self, *, has_body: bool = True, timeout_s: float = 5.0) -> RawResponse:
        """The next response, 100 Continue included. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            length = int(headers.get("content-length", 0)) if has_body else 0
            return RawResponse(
                int(first.split()[1]), headers, await self._reader.readexactly(length)
            )

    async def ends(self) -> bool:
        """Whether the server closes without another byte."""
        async with asyncio.timeout(5):
            try:
                return await self._reader.read() == b""
            except ConnectionResetError:  # the server closed while we were sending
                return True


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[RawConnection]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.close()


def make_request(
    method: str, path: str, *lines: str, key: str | None = None, body: bytes | None = None
) -> bytes:
    """A request. Adds Content-Length unless `lines` contain a header that frames the body."""
    head = [f"{method} {path} HTTP/1.1", "Host: leadlog.test", *lines]
    if key is not None:
        head.append(f"Authorization: Bearer {key}")
    is_framed = any(line.lower().startswith(("content-length", "transfer-")) for line in lines)
    if body is not None and not is_framed:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (body or b"")
