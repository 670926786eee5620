"""One HTTP/1.1 connection to a webhook receiver: sends a request, keeps a bounded response.

llhttp parses the response. Only its status, two headers and the start of its body are used. This
module limits its size in bytes; the caller of `send_request` limits its duration.
"""

import asyncio
import time
from typing import Any, cast

import httptools
import msgspec

from workers.delivery.parsed_url import Origin

MAX_KEPT_BYTES = 16 * 1024
"""The limit of a body. A longer body is cut, and its connection is closed."""
MAX_OVERHEAD_BYTES = 32 * 1024
"""The limit of all but the body: interim responses, the head, chunk extensions and trailers."""
MIN_CHUNK_BYTES = len(b"1\r\n\r\n")
"""The smallest overhead of a chunk. It is not counted, because the limit of the body also limits
the number of chunks: each has at least one byte."""
MAX_HEADERS = 200
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL = 200


class InvalidResponseError(Exception):
    """The response is not HTTP, or exceeds a limit."""


class IncompleteBodyError(Exception):
    """The connection ended within a body."""


class ConnectionLostError(ConnectionError):
    """The connection ended before the head of a response was complete."""


class StaleConnectionError(ConnectionLostError):
    """The connection ended before the first byte of a response."""


class Response(msgspec.Struct):
    """The parts of a response that have arrived. Status 0: no head yet."""

    status: int = 0
    retry_after: str | None = None
    control: str | None = None
    """The header `webhook-delivery`."""
    body: bytearray = msgspec.field(default_factory=bytearray)
    head_at: float = 0.0
    """The time at which the head was complete, by time.perf_counter."""
    is_complete: bool = False


class HttpConnection(asyncio.Protocol):
    """A connection and its parser. After each request it is reusable or aborted."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(  # old servers do both; neither is ambiguous
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._transport: asyncio.Transport | None = None
        self._response = Response()
        self._waiter: asyncio.Future[None] | None = None
        self._overhead_bytes = self._headers = 0
        self._has_length = self._keeps_alive = False

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent: the last one ended well and both sides are open."""
        return self._transport is not None and not self._transport.is_closing()

    async def send_request(self, request: bytes, response: Response) -> None:
        """Sends a whole request and fills `response` as its parts arrive.

        Raises InvalidResponseError, IncompleteBodyError, ConnectionLostError or OSError; `response`
        keeps the parts that arrived before. Cancelling this ends the connection.
        """
        if self._transport is None or not self.is_open:
            raise StaleConnectionError
        self._response = response
        self._overhead_bytes = self._headers = 0
        self._has_length = self._keeps_alive = False
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            await self._waiter
        finally:
            self._waiter = None
            # After an incomplete body or a partly sent request the next response would be misread.
            is_reusable = response.is_complete and self._keeps_alive
            if not is_reusable or self._transport.get_write_buffer_size():
                self.abort()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass

    def data_received(self, data: bytes) -> None:
        if not self._is_awaited():  # unsolicited: no response to the next request
            self.abort()
            return
        self._overhead_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # status 101; another protocol follows
            self._keeps_alive = False
            self._complete()
        except httptools.HttpParserError as error:
            self._keeps_alive = False
            self._reject(str(error.__context__ or error))
        if self._overhead_bytes > MAX_OVERHEAD_BYTES:
            self._reject("too many bytes beside the body")

    def eof_received(self) -> None:
        self._handle_loss(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handle_loss(exc)

    # Called by the parser.

    def on_message_begin(self) -> None:
        if not self._is_awaited():  # a second response
            self._keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise InvalidResponseError("too many headers")
        name = name.lower()
        if name in {b"content-length", b"transfer-encoding"}:
            self._has_length = True
        elif name == b"retry-after":
            self._response.retry_after = self._response.retry_after or value.decode("latin-1")
        elif name == b"webhook-delivery":
            self._response.control = self._response.control or value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        is_interim = status < _FIRST_FINAL and status != _SWITCHING_PROTOCOLS
        if is_interim or not self._is_awaited():
            return
        self._response.status, self._response.head_at = status, time.perf_counter()
        self._keeps_alive = self._parser.should_keep_alive()

    def on_chunk_header(self) -> None:
        self._overhead_bytes -= MIN_CHUNK_BYTES

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes -= len(body)
        kept = self._response.body
        if self._is_awaited():
            kept += body[: MAX_KEPT_BYTES + 1 - len(kept)]
            if len(kept) > MAX_KEPT_BYTES:
                self._wake(None)

    def on_message_complete(self) -> None:
        if not self._response.status:  # an interim response
            self._has_length = False
        elif self._is_awaited():
            self._complete()

    def _is_awaited(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _complete(self) -> None:
        self._response.is_complete = self._response.is_complete or self._is_awaited()
        self._wake(None)

    def _reject(self, reason: str) -> None:
        """Ends the request with an error; the status of an invalid response does not count."""
        if self._is_awaited():
            self._response.status = 0
            self._wake(InvalidResponseError(reason))

    def _handle_loss(self, error: Exception | None) -> None:
        if not self._response.status:
            lost = ConnectionLostError if self._overhead_bytes else StaleConnectionError
            self._wake(lost(str(error or "closed")))
        elif self._has_length or error is not None:
            self._wake(IncompleteBodyError("closed within the body"))
        else:  # a body without a length ends with its connection
            self._complete()

    def _wake(self, error: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            if error is None:
                self._waiter.set_result(None)
            else:
                self._waiter.set_exception(error)
