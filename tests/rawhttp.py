"""HTTP by hand, for what a client library would never send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read_answer(self, *, has_body: bool = True) -> RawAnswer:
        """The next answer, 100 Continue included; fails if none comes within 5 s."""
        async with asyncio.timeout(5):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            length = int(headers.get("content-length", 0)) if has_body else 0
            return RawAnswer(int(first.split()[1]), headers, await self._reader.readexactly(length))

    async def ends(self) -> bool:
        """Whether the server says no more and closes."""
        async with asyncio.timeout(5):
            return await self._reader.read() == b""


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Wire]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def make_request(
    method: str, path: str, *lines: str, key: str | None = None, body: bytes | None = None
) -> bytes:
    """A request; its Content-Length unless `lines` say how the body goes."""
    head = [f"{method} {path} HTTP/1.1", "Host: leadlog.test", *lines]
    if key is not None:
        head.append(f"Authorization: Bearer {key}")
    told = any(line.lower().startswith(("content-length", "transfer-")) for line in lines)
    if body is not None and not told:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (body or b"")
