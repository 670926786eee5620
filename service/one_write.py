"""Sends the head and the body of an answer in one write, and bounds the head of a request.

uvicorn writes head and body one after the other: two system calls and, on the wire, often two
packets; and it looks at each header with two regular expressions. Together this was a third of a
small GET (py-spy).
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

HEAD_TIMEOUT_S = 20.0
HEAD_LIMIT_BYTES = 256 * 1024


class OneWriteCycle(RequestResponseCycle):
    """uvicorn's exchange, with a short way for an answer that comes in one piece."""

    _head: Any = None
    """The first message of the answer, until its body is there."""

    async def send(self, message: Any) -> None:
        """As uvicorn's own."""
        head = self._head
        if head is None and not self.response_started:
            self._head = message
            return
        if head is not None:
            self._head = None
            if not message.get("more_body") and not self.flow.write_paused and _is_plain(head):
                self._send_whole(head, message.get("body", b""))
                return
            await super().send(head)
        await super().send(message)

    def _send_whole(self, head: Any, body: bytes) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        if not self.disconnected:
            headers = self.default_headers + head["headers"]
            lines = [b"%b: %b\r\n" % pair for pair in headers]
            if not self.keep_alive:
                lines.append(b"connection: close\r\n")
            text = b"".join(lines)
            if text.count(b"\n") != len(lines):
                raise RuntimeError("a header of the answer holds a line break")
            if self.scope["method"] == "HEAD":
                body = b""
            self.transport.write(b"".join((STATUS_LINE[head["status"]], text, b"\r\n", body)))
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _is_plain(head: Any) -> bool:
    """Whether the length is known beforehand, and nothing is said about the connection."""
    names = [name for name, _ in head["headers"]]
    has_length = b"content-length" in names or head["status"] in {204, 304}
    return has_length and b"connection" not in names and b"transfer-encoding" not in names


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol with such exchanges, and bounds on the head of a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._is_in_head, self._head_bytes = True, 0
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = OneWriteCycle  # uvicorn names its own class where it makes one
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Bounds what uvicorn does not: how long a head may take to come, and how long it is."""
        super().data_received(data)
        if not self._is_in_head:
            self._head_timer.cancel()
            self._head_bytes = 0
            return
        if self._head_timer.cancelled():
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)
