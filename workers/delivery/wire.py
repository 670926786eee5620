"""One HTTP/1.1 connection to a stranger's server: a request goes out, a bounded answer is kept.

llhttp parses. All we need of an answer is its status, two headers and the beginning of its body;
what it may cost us is bounded in bytes here, and in time by whoever awaits `exchange`.
"""

import asyncio
import time
from typing import Any, cast

import httptools
import msgspec

from workers.delivery.places import Origin

MAX_KEPT_BYTES = 16 * 1024
"""Of a body. One that is longer is cut, and its connection with it."""
MAX_HEAD_BYTES = 32 * 1024
"""Of all that is no body: any number of 1xx may come before the head that counts, chunks have
extensions, and trailers may follow."""
CHUNK_BYTES = len(b"1\r\n\r\n")
"""What a chunk costs at the least; there are no more chunks than bytes of the body."""
MAX_HEADERS = 200
_SWITCHING = 101
_FIRST_FINAL = 200


class BadAnswerError(Exception):
    """What came is not HTTP, or more of it than we take."""


class IncompleteError(Exception):
    """The connection ended in the middle of a body."""


class LostError(ConnectionError):
    """The connection ended before the head of an answer."""


class StaleError(LostError):
    """It ended before a single byte of an answer."""


class Answer(msgspec.Struct):
    """What has come so far; `head_at` by time.perf_counter. Status 0: no head yet."""

    status: int = 0
    retry_after: str | None = None
    control: str | None = None
    """The header `webhook-delivery`."""
    body: bytearray = msgspec.field(default_factory=bytearray)
    head_at: float = 0.0
    ended: bool = False


class Wire(asyncio.Protocol):
    """A connection and its parser. One exchange at a time; it is reusable or aborted afterwards."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(  # what old servers do, and cannot be misread
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._transport: asyncio.Transport | None = None
        self._answer = Answer()
        self._waiter: asyncio.Future[None] | None = None
        self._other_bytes = self._headers = 0
        self._has_length = self._keeps_alive = False

    @property
    def is_open(self) -> bool:
        """Whether another request may go out: the last one ended well, and nobody hung up."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, answer: Answer) -> None:
        """Sends a whole request and fills `answer` as its parts come.

        Raises BadAnswerError, IncompleteError, LostError or OSError; what `answer` has by then
        stays. Cancelling it ends the connection.
        """
        if self._transport is None or not self.is_open:
            raise StaleError
        self._answer = answer
        self._other_bytes = self._headers = 0
        self._has_length = self._keeps_alive = False
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            await self._waiter
        finally:
            self._waiter = None
            # Without a body to its end, or with our request unread, the next would be misread.
            if not (answer.ended and self._keeps_alive) or self._transport.get_write_buffer_size():
                self.abort()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if not self._is_awaited():  # nobody asked: an answer to nothing must not meet the next
            self.abort()
            return
        self._other_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # 101; whatever follows is not for us
            self._keeps_alive = False
            self._end()
        except httptools.HttpParserError as error:
            self._keeps_alive = False
            self._refuse(str(error.__context__ or error))
        if self._other_bytes > MAX_HEAD_BYTES:
            self._refuse("there is too much beside the body")

    def eof_received(self) -> None:
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(exc)

    # From the parser.

    def on_message_begin(self) -> None:
        if not self._is_awaited():  # more than one answer
            self._keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise BadAnswerError("too many headers")
        name = name.lower()
        if name in {b"content-length", b"transfer-encoding"}:
            self._has_length = True
        elif name == b"retry-after":
            self._answer.retry_after = self._answer.retry_after or value.decode("latin-1")
        elif name == b"webhook-delivery":
            self._answer.control = self._answer.control or value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._is_awaited() or (status < _FIRST_FINAL and status != _SWITCHING):
            return
        self._answer.status, self._answer.head_at = status, time.perf_counter()
        self._keeps_alive = self._parser.should_keep_alive()

    def on_chunk_header(self) -> None:
        self._other_bytes -= CHUNK_BYTES

    def on_body(self, body: bytes) -> None:
        self._other_bytes -= len(body)
        kept = self._answer.body
        if self._is_awaited():
            kept += body[: MAX_KEPT_BYTES + 1 - len(kept)]
            if len(kept) > MAX_KEPT_BYTES:
                self._wake(None)

    def on_message_complete(self) -> None:
        if not self._answer.status:  # 1xx
            self._has_length = False
        elif self._is_awaited():
            self._end()

    def _is_awaited(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _end(self) -> None:
        self._answer.ended = self._answer.ended or self._is_awaited()
        self._wake(None)

    def _refuse(self, reason: str) -> None:
        """An answer that breaks the rules of HTTP is none, whatever its first line said."""
        if self._is_awaited():
            self._answer.status = 0
            self._wake(BadAnswerError(reason))

    def _lose(self, error: Exception | None) -> None:
        if not self._answer.status:
            lost = LostError if self._other_bytes else StaleError
            self._wake(lost(str(error or "closed")))
        elif self._has_length or error is not None:
            self._wake(IncompleteError("closed within the body"))
        else:  # the end of the connection is the end of the body
            self._end()

    def _wake(self, error: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            if error is None:
                self._waiter.set_result(None)
            else:
                self._waiter.set_exception(error)
