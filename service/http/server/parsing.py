"""Parses the requests of one connection, with httptools (llhttp) and further checks and limits.

An Upgrade is ignored, and its request is parsed like any other (RFC 9110, 7.8). httptools stops at
an Upgrade, so a new parser gets the same head without it.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from service.errors import MethodNotAllowed
from service.http.server.cycle import EXTENSION, Connection, RequestCycle
from service.http.server.fields import (
    MAX_HEADERS,
    NO_HOST,
    check_encoding,
    check_host,
    check_single,
    collect_fields,
    refuse,
)
from service.http.server.malformed import BAD_TARGET, describe_malformed, explain_malformed

HEAD_LIMIT_BYTES = 64 * 1024
LINE_LIMIT_BYTES = 16 * 1024
"""For the target and for each field. httptools copies a field again for each received part."""
FRAMING_LIMIT_BYTES = 8 * 1024
"""The limit of a body's framing (chunk extensions and trailers), in bytes: for the framing that
arrives without a byte of the body in between, and for all framing of the body, not counting
CHUNK_LINE_BYTES for each chunk."""
CHUNK_LINE_BYTES = 128
"""Enough for a chunk's size and an extension such as a signature."""
LATE_BODY_BYTES = 1024 * 1024
"""Of a body that continues after its response; these bytes are read and ignored."""
FIELD_BYTES = 200
"""Approximate memory of a parsed field besides its bytes (tracemalloc)."""
TOO_LONG = (
    f"The head of the request is too long: {HEAD_LIMIT_BYTES} bytes and {MAX_HEADERS} fields are "
    "allowed."
)
LINE_TOO_LONG = (
    f"The target and each header field of a request may have {LINE_LIMIT_BYTES} bytes; one is "
    "longer."
)
TOO_MUCH_FRAMING = (
    "There are too many bytes between the chunks of the body, or behind them: extensions and "
    f"trailers may have {FRAMING_LIMIT_BYTES}."
)
FOREIGN_METHODS = frozenset({
    "ANNOUNCE", "DESCRIBE", "FLUSH", "GET_PARAMETER", "PAUSE", "PLAY", "RECORD", "REDIRECT",
    "SETUP", "SET_PARAMETER", "SOURCE", "TEARDOWN",
})  # fmt: skip
"""Methods of RTSP and ICE, which httptools accepts."""


NO_TRAILERS = frozenset({b"connection", b"proxy-connection"})
"""httptools would obey these fields in a trailer too (RFC 9110, 6.5.1)."""


class RequestParser:
    """Calls `add_request` after each complete head; the request's cycle gets the body."""

    def __init__(
        self,
        connection: Connection,
        base_scope: dict[str, Any],
        add_request: Callable[[RequestCycle, Scope], None],
    ) -> None:
        """`base_scope` is the common part of all scopes."""
        self._connection, self._base_scope = connection, base_scope
        self._add_request = add_request
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._framing_bytes = 0
        """Bytes of the current head or, after the head, of the framing of the body, minus
        CHUNK_LINE_BYTES for each chunk. If a head or a message ends within a piece of input, the
        whole piece counts toward that head or message."""
        self._body_bytes = self._late_bytes = 0
        """Bytes of the current body: all of them, and those that arrived after its response."""
        self._head_bytes = self._replayed_bytes = 0
        """Bytes of the current request's head, if it arrived in several parts, and of a head that
        is parsed again."""
        self._progress: tuple[int, int, int] | None = None
        self._bytes_without_progress = 0
        """Bytes since the last complete header field or the last byte of a body."""
        self._has_bad_method = False
        self._is_in_head = True
        self._upgrading: tuple[str, str] | None = None
        """The method and version of a request with an Upgrade, until it is parsed again."""
        self._valid_host: bytes | None = None
        """The last valid Host, which need not be checked again."""
        self.cycle: RequestCycle | None = None
        """The last request; its body may still be arriving."""
        self.is_between_requests = False
        """Whether nothing has arrived after the last request."""
        self.is_last = False
        """Whether the last request ends the connection."""

    def feed(self, data: bytes) -> None:
        """Parse input. Raises Problem for an invalid request; nothing may be parsed after it."""
        self._framing_bytes += len(data)
        try:
            while True:
                try:
                    self._parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as pause:
                    head = self._make_head_without_upgrade()
                    self._replayed_bytes = len(head)
                    data = head + data[pause.args[0] :]
                    self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as error:
            self._has_bad_method = isinstance(error, httptools.HttpParserInvalidMethodError)
            cause = error.__context__
            if cause is not None and not isinstance(cause, httptools.HttpParserError):
                raise cause from None  # raised by a callback below
            raise refuse(explain_malformed(error), code="malformed") from error
        if not self.is_between_requests or self._framing_bytes > FRAMING_LIMIT_BYTES:
            self._check_unfinished(len(data))

    @property
    def is_head(self) -> bool:
        """Whether the method of the last request, complete or not, is HEAD."""
        return not self._has_bad_method and self._parser.get_method() == b"HEAD"

    @property
    def held_bytes(self) -> int:
        """Approximate memory of an incomplete request and of a long head."""
        if self.is_between_requests:
            return self._head_bytes
        if self._is_in_head:
            return self._framing_bytes + FIELD_BYTES * len(self._headers)
        is_held = self.cycle is not None and not self.cycle.is_complete
        return self._head_bytes + (self._body_bytes if is_held else 0)

    def _check_unfinished(self, size: int) -> None:
        """Raises InvalidRequest if `size` further bytes make the current part too long."""
        progress = len(self._url), len(self._headers), self._body_bytes
        if progress == self._progress:
            self._bytes_without_progress += size
        else:
            self._bytes_without_progress = 0
            self._progress = progress
        if self._is_in_head:
            if len(self._headers) > MAX_HEADERS or self._framing_bytes > HEAD_LIMIT_BYTES:
                raise refuse(TOO_LONG)
            if max(len(self._url), self._bytes_without_progress) > LINE_LIMIT_BYTES:
                raise refuse(LINE_TOO_LONG)
        elif max(self._bytes_without_progress, self._framing_bytes) > FRAMING_LIMIT_BYTES:
            raise refuse(TOO_MUCH_FRAMING)

    def close(self) -> None:
        """Break the reference cycles, so that the garbage collector need not find them."""
        del self._parser, self._add_request, self._connection

    def _make_head_without_upgrade(self) -> bytes:
        method, version = self._upgrading or ("", "")
        self._upgrading = None
        first = (method.encode(), b" ", self._url, b" HTTP/", version.encode(), b"\r\n")
        lines = [b"%b: %b\r\n" % pair for pair in self._headers if pair[0] != b"upgrade"]
        return b"".join((*first, *lines, b"\r\n"))

    # -- Called by httptools --

    def on_message_begin(self) -> None:
        if self.is_last:
            raise refuse("Nothing may follow the last request of a connection.", code="malformed")
        self._url, self._headers = b"", []
        self._framing_bytes, self._is_in_head = self._replayed_bytes, True
        self._body_bytes = self._late_bytes = 0
        self._progress = None
        self.is_between_requests = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            self._headers.append((name.lower(), value.rstrip(b" \t")))
        elif name.lower() in NO_TRAILERS:
            title = name.decode("ascii").title()
            raise refuse(f"{title} is not allowed in a trailer.", title, "invalid_value")

    def on_headers_complete(self) -> None:
        parser = self._parser
        method, version = parser.get_method().decode("ascii"), parser.get_http_version()
        if version != "1.1":
            _check_version(method, version)
        if parser.should_upgrade():
            if method == "CONNECT":
                message = "CONNECT is not supported: this server is no proxy."
                raise MethodNotAllowed(message, headers={"Allow": "DELETE, GET, PATCH, POST"})
            self._upgrading = method, version
            return
        if len(self._headers) > MAX_HEADERS:
            raise refuse(TOO_LONG)
        if self._framing_bytes:
            self._check_lines()
        self._head_bytes = self._framing_bytes
        self._framing_bytes = self._replayed_bytes = 0
        fields = self._check_fields(version)
        keep_alive = version == "1.1" and parser.should_keep_alive()
        cycle = RequestCycle(self._connection, fields, method, version, keep_alive=keep_alive)
        scope = self._make_scope(method, version, cycle)
        self._is_in_head, self.cycle = False, cycle
        self._add_request(cycle, scope)

    def on_chunk_header(self) -> None:
        self._framing_bytes -= CHUNK_LINE_BYTES

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle is None:
            return
        size = len(body)
        self._framing_bytes -= size
        self._body_bytes += size
        if cycle.is_complete:
            self._late_bytes += size
            if self._late_bytes > LATE_BODY_BYTES:
                raise refuse("The body continues long after its response.", code="too_long")
        else:
            cycle.add_body(body)

    def on_message_complete(self) -> None:
        if self._upgrading is None and self.cycle is not None:
            self.is_between_requests, self.is_last = True, not self.cycle.keep_alive
            self._framing_bytes = 0
            self.cycle.end_body()

    # -- Checks of a head --

    def _check_lines(self) -> None:
        """Check the lengths in a head that arrived in several parts.

        A head that arrived in one part needs no check: a part is shorter than the limits.
        """
        sizes = [len(self._url), *(len(name) + len(value) for name, value in self._headers)]
        if sum(sizes) > HEAD_LIMIT_BYTES:
            raise refuse(TOO_LONG)
        if max(sizes) > LINE_LIMIT_BYTES:
            raise refuse(LINE_TOO_LONG)

    def _check_fields(self, version: str) -> dict[bytes, bytes]:
        headers = self._headers
        fields = collect_fields(headers)
        if len(fields) != len(headers):
            check_single(headers)
        host = fields.get(b"host")
        if host is None:
            if version == "1.1":
                raise refuse(NO_HOST, "Host", "required")
        elif host != self._valid_host:
            check_host(host)
            self._valid_host = host
        if b"transfer-encoding" in fields:
            check_encoding(fields[b"transfer-encoding"], version)
        return fields

    def _make_scope(self, method: str, version: str, cycle: RequestCycle) -> Scope:
        try:
            target = httptools.parse_url(self._url)
        except httptools.HttpParserInvalidURLError:
            raise refuse(describe_malformed(BAD_TARGET), code="malformed") from None
        if target.fragment is not None:
            raise refuse("The target of a request must have no fragment.", code="malformed")
        raw_path: bytes = target.path or b"/"
        path = raw_path.decode("ascii")
        return {
            **self._base_scope,
            "http_version": version,
            "method": method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": target.query or b"",
            "headers": self._headers,
            "state": self._base_scope["state"].copy(),
            "extensions": {EXTENSION: cycle},
        }


def _check_version(method: str, version: str) -> None:
    if version != "1.0" or method in FOREIGN_METHODS:
        raise refuse("Only HTTP/1.1 and HTTP/1.0 are supported.", code="malformed")
