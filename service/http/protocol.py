"""Sends the head and the body of an answer in one write, and bounds the head of a request.

uvicorn writes head and body one after the other: two system calls and, on the wire, often two
packets; and it looks at each header with two regular expressions. Together this was a third of a
small GET (py-spy). It also sets and cancels a timer around each request, in case no other follows;
here one looks after the connection for as long as it lasts.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, TypeAlias

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

HEAD_TIMEOUT_S = 20.0
HEAD_LIMIT_BYTES = 256 * 1024
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
"""Names in lower case."""


class OneWriteCycle(RequestResponseCycle):
    """uvicorn's exchange, with a short way for a body that is there and an answer that is whole."""

    _is_taken = False

    def take_body(self) -> bytes | None:
        """The body, if all of it is there; once, and in place of receiving it."""
        if self.more_body or self._is_taken or self.disconnected or self.response_complete:
            return None
        self._is_taken = True
        self.waiting_for_100_continue = False  # nobody waits for it who has sent all
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return body

    def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Sends a whole answer in one write; its length, if it may have a body, is in `headers`.

        False if it must go uvicorn's own way: nothing has been sent then.
        """
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False  # whether the body still comes is not known
        lines = [b"%b: %b\r\n" % pair for pair in (*self.default_headers, *headers)]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        text = b"".join(lines)
        if not text.count(b"\n") == text.count(b"\r") == len(lines):
            raise RuntimeError("a header of the answer holds a line break")
        says_close = self.keep_alive and b"\nconnection: " in b"\n" + text
        if self.response_started or says_close or self.flow.write_paused:
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        if not self.disconnected:
            if self.scope["method"] == "HEAD":
                body = b""
            self.transport.write(b"".join((STATUS_LINE[status], text, b"\r\n", body)))
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


def find_cycle(channel: Any) -> OneWriteCycle | None:
    """The exchange that an app's `receive` or `send` belongs to, if it is one of these."""
    cycle = getattr(channel, "__self__", None)
    return cycle if isinstance(cycle, OneWriteCycle) else None


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol with such exchanges, and bounds on the head of a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._is_in_head, self._head_bytes = True, 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = OneWriteCycle  # uvicorn names its own class where it makes one
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        self._is_in_head, self._head_bytes = True, 0
        self._head_timer.cancel()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's own, but for the timer."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._watch_idle(self.timeout_keep_alive)

    def _watch_idle(self, seconds: float) -> None:
        self._idle_timer = self.loop.call_later(seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if not self.cycle.response_complete:  # at work; the answer begins a new pause
            self._watch_idle(self.timeout_keep_alive)
        elif left_s > 0:
            self._watch_idle(left_s)
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Bounds what uvicorn does not: how long a head may take to come, and how long it is."""
        self._idle_since = self.loop.time()
        super().data_received(data)
        if not self._is_in_head:
            self._head_timer.cancel()
            return
        if self._head_timer.cancelled():
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)
