"""One request of a connection and its response: the server's side of ASGI.

Besides ASGI's messages there are two direct methods: `take_body` for a body that has arrived whole,
and `respond` for a whole response in one write. uvicorn's implementation sends head and body
separately and matches each header against two regular expressions: a third of the time of a small
GET (py-spy). The app finds the cycle in the scope's extensions.
"""

import asyncio
import logging
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Scope

from service.errors import InternalError, Problem
from service.http.server.fields import Fields, Headers

EXTENSION = "leadlog.cycle"
"""The key of the cycle in a scope's extensions."""
CLOSE_LINE = b"connection: close\r\n"
STATUS_LINES = {
    int(status): f"HTTP/1.1 {status:d} {HTTPStatus(status).phrase}\r\n".encode()
    for status in HTTPStatus
}
CUT_OFF = "The connection was closed before the whole body had arrived."
_NO_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
logger = logging.getLogger("uvicorn.error")


class Connection(Protocol):
    """The part of a connection that its cycles use; HttpProtocol has the docstrings."""

    is_write_paused: bool
    """Whether so much is unsent that a further write should wait."""
    has_eof: bool
    """Whether the client sends no more."""
    owner: Hashable
    """The caller in whose share the connection is counted."""

    @property
    def default_headers(self) -> Headers: ...
    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def continue_reading(self) -> None: ...
    def finish(self, cycle: "RequestCycle") -> None: ...
    def abort(self) -> None: ...
    def make_error_response(self, problem: Problem) -> tuple[Headers, bytes]: ...


class RequestCycle:
    """A request and its response. It has no reference to its scope, which refers to it."""

    __slots__ = (
        "_awaited_event",
        "_connection",
        "_expects_continue",
        "_is_body_taken",
        "_is_chunked",
        "_is_head",
        "_left_bytes",
        "_may_chunk",
        "_receiver",
        "body",
        "fault",
        "fields",
        "is_complete",
        "is_disconnected",
        "is_started",
        "keep_alive",
        "more_body",
    )

    def __init__(
        self, connection: Connection, fields: Fields, method: str, version: str, *, keep_alive: bool
    ) -> None:
        self._connection = connection
        self.fields = fields
        self.keep_alive = keep_alive
        self._is_head = method == "HEAD"
        self._may_chunk = version == "1.1"
        expect = fields.get(b"expect")
        self._expects_continue = (
            expect is not None and self._may_chunk
            and b"100-continue" in [each.strip() for each in expect.lower().split(b",")]
        )  # fmt: skip
        self.body: bytes | bytearray = b""
        """The received part of the body that the app has not read."""
        self.more_body = True
        """Whether more of the body is still to arrive."""
        self.fault: str | None = None
        """Why the rest of the body will not arrive."""
        self.is_started = self.is_complete = False
        """Whether the response was started, and whether it is complete."""
        self.is_disconnected = False
        self._is_body_taken = False
        """Whether the app has read the end of the body."""
        self._is_chunked = False
        self._left_bytes: int | None = None
        """The rest of the response's Content-Length."""
        self._receiver: asyncio.Future[None] | None = None
        """What `receive` waits for."""
        self._awaited_event: asyncio.Event | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the app waits for the body or for an event: no work is in progress."""
        return self._receiver is not None or self._awaited_event is not None

    @property
    def has_client_left(self) -> bool:
        """Whether the client sends no more. It could still read, but usually it has left."""
        return self.is_disconnected or self._connection.has_eof

    def set_owner(self, owner: Hashable) -> None:
        """Count the connection in the share of this caller."""
        self._connection.owner = owner

    @contextmanager
    def waiting_for(self, event: asyncio.Event) -> Iterator[None]:
        """Mark the request as waiting for an event, which is set, too, if the client leaves."""
        self._awaited_event = event
        if self.has_client_left:
            event.set()
        try:
            yield
        finally:
            self._awaited_event = None

    @property
    def is_write_paused(self) -> bool:
        """Whether `send` would wait for the client to read."""
        return self._connection.is_write_paused

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the app. If it fails, send a 500 or, after the head of a response, abort."""
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._connection.abort()
            raise
        except Exception:
            logger.exception("the app failed")
            self._respond_to_failure()
        else:
            if not self.is_complete:
                self._respond_to_failure()

    def _respond_to_failure(self) -> None:
        if self.is_complete or self.is_disconnected:
            return
        if self.is_started:
            self._connection.abort()
            return
        problem = InternalError("Something went wrong on our side.")
        self.respond(problem.status, *self._connection.make_error_response(problem))

    # -- The request's body --

    def take_body(self) -> bytes | None:
        """The body if it has arrived whole, else None. Replaces `receive`, and succeeds once."""
        if self.more_body or self._is_body_taken or self.is_disconnected or self.is_complete:
            return None
        self._is_body_taken = True
        self._expects_continue = False  # no 100 is due once the whole body has arrived
        body, self.body = self.body, b""
        return bytes(body)

    def add_body(self, data: bytes) -> None:
        """Add a received part of the body."""
        if not self.body:
            self.body = data
        elif isinstance(self.body, bytearray):
            self.body += data
        else:
            self.body = bytearray(self.body) + data
        self._wake_receiver()

    def end_body(self) -> None:
        """Record that the whole body has arrived."""
        self.more_body = False
        if self._receiver is not None:
            self._wake_receiver()

    def fail_body(self, fault: str) -> None:
        """Record why the rest of the body will not arrive."""
        self.fault = fault
        self.keep_alive = False
        self._wake_receiver()

    def disconnect(self) -> None:
        """Record that the connection is lost."""
        self.is_disconnected = True
        self._wake_receiver()
        self.stop_waiting()

    def stop_waiting(self) -> None:
        """Set the event that the app waits for, if any."""
        if self._awaited_event is not None:
            self._awaited_event.set()

    def _wake_receiver(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    async def receive(self) -> Message:
        """ASGI: the next part of the body, or a disconnect."""
        if self._expects_continue and self.more_body and not self.is_started:
            self._expects_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._has_message():
            self._receiver = asyncio.get_running_loop().create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
        if self.is_disconnected or self.is_complete or (self.fault and not self.body):
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), b""
        self._connection.continue_reading()  # may add to the body, or end it
        more = self.more_body or bool(self.body)
        self._is_body_taken = not more
        return {"type": "http.request", "body": body, "more_body": more}

    def _has_message(self) -> bool:
        return (
            bool(self.body) or self.is_disconnected or self.is_complete or self.fault is not None
            or not (self.more_body or self._is_body_taken)
        )  # fmt: skip

    # -- The response --

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole response in one write. With a body, `headers` has its Content-Length."""
        if self.is_started:
            raise RuntimeError("the response was started already")
        lines = self._make_lines(headers)
        self.is_started = True
        if not self.is_disconnected:
            content = b"" if self._is_head else body
            self._connection.write(b"".join((STATUS_LINES[status], *lines, b"\r\n", content)))
        self._complete()

    def _make_lines(self, headers: Headers) -> list[bytes]:
        if self._expects_continue and self.more_body:
            self.keep_alive = False  # the client may send the body or leave it out
        defaults = self._connection.default_headers
        lines = [b"%b: %b\r\n" % pair for pair in (*defaults, *headers)]
        text = b"".join(lines)
        if not text.count(b"\n") == text.count(b"\r") == len(lines):
            raise RuntimeError("a header of the response contains a line break")
        if CLOSE_LINE in lines:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(CLOSE_LINE)
        return lines

    async def send(self, message: Message) -> None:
        """ASGI: send a part of the response, after waiting for a client that reads slowly."""
        if self._connection.is_write_paused and not self.is_disconnected:
            await self._connection.drain()
        if self.is_disconnected:
            return
        if self.is_complete:
            raise RuntimeError("the response is complete already")
        if message["type"] == "http.response.start" and not self.is_started:
            self._start(message["status"], message.get("headers", ()))
        elif message["type"] == "http.response.body" and self.is_started:
            self._add(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} is not allowed now")

    def _start(self, status: int, headers: Any) -> None:
        lowered = [(bytes(name).lower(), bytes(value)) for name, value in headers]
        length = dict(lowered).get(b"content-length")
        if length is not None:
            self._left_bytes = int(length)
        elif status not in _NO_BODY and not self._is_head:
            self._is_chunked = self._may_chunk
            if self._is_chunked:
                lowered.append((b"transfer-encoding", b"chunked"))
            else:
                self.keep_alive = False  # the end of the connection is the end of the body
        lines = self._make_lines(lowered)
        self.is_started = True
        self._connection.write(b"".join((STATUS_LINES[status], *lines, b"\r\n")))

    def _add(self, body: bytes, *, more: bool) -> None:
        if self._is_head:
            body = b""
        elif self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if more else b"0\r\n\r\n"
        elif self._left_bytes is not None:
            self._left_bytes -= len(body)
            if self._left_bytes < 0 or (self._left_bytes and not more):
                raise RuntimeError("the body is not as long as its Content-Length")
        if body:
            self._connection.write(body)
        if not more:
            self._complete()

    def _complete(self) -> None:
        self.is_complete = True
        self.body = b""
        self._wake_receiver()
        self._connection.finish(self)


def find_cycle(scope: Scope) -> RequestCycle | None:
    """The cycle of a scope; None if another server made the scope."""
    extensions = scope.get("extensions")
    return extensions.get(EXTENSION) if extensions else None
