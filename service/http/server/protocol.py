"""One client connection: parses requests, runs them in order, and writes their responses.

uvicorn's server runs it. The connection parses no further request while its client does not read
responses, every wait for the client has a timeout, and an error response never overtakes a response
that is due. Input is parsed in small slices, so that few of many pipelined requests are in memory
as parsed requests.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Hashable
from functools import partial
from typing import Any, cast

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.errors import Overloaded, Problem, encode_problem
from service.http.server.connections import ConnectionTable
from service.http.server.cycle import CUT_OFF, RequestCycle
from service.http.server.fields import Headers
from service.http.server.parsing import RequestParser
from service.http.server.write_progress import WriteProgress
from service.ids import make_request_id
from service.load.owner import find_network
from service.settings import Settings
from service.telemetry.logging import get_logger

HEAD_TIMEOUT_S = 20.0
"""For a head, from its first byte, and for the rest of a body after its response was sent."""
LINGER_S = 2.0
"""How long input is read and ignored after the last response, before the connection is closed."""
LINGER_BYTES = 16 * 1024 * 1024
"""How much input is read and ignored meanwhile; further input stays in the network."""
SLICE_BYTES = 4096
QUEUED_BYTES = 1500
"""Approximate memory of a parsed request (tracemalloc)."""
BODY_AHEAD_BYTES = 64 * 1024
"""Of a body, how much is received before the app reads it."""
SEND_BUFFER_BYTES = 256 * 1024
"""The kernel's, for each connection. By default it grows to several MB if the client reads none."""
log = get_logger("http")


class HttpProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(
        self, table: ConnectionTable, config: Config, server_state: ServerState,
        app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        """All arguments except the table are passed by uvicorn."""
        self._table = table
        self._config = config
        self._server_state = server_state
        self._connections: set[Any] = server_state.connections  # uvicorn waits for them at its end
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self.keep_alive_s: float = config.timeout_keep_alive
        self._current: RequestCycle | None = None
        """The request that the app is answering."""
        self._queue: deque[tuple[RequestCycle, Scope]] = deque()
        """Parsed requests; each starts when the responses before it are sent."""
        self._unparsed: memoryview | None = None
        """Received input that is not parsed yet."""
        self._refusal: Problem | None = None
        """The error response to send after all responses that are due."""
        self._is_input_closed = False
        """Whether further input is ignored."""
        self.has_eof = False
        """Whether the client sends no more."""
        self._is_lingering = False
        """Whether the last response was sent and input is read only to be ignored."""
        self._is_lost = False
        """Whether the transport is closed."""
        self._is_reading_paused = self.is_write_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._ignored_bytes = 0
        self.active_at = self._loop.time()
        self.counted_bytes = 0
        self.owner: Hashable = ""

    # -- Start and end of the connection --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._write_progress = WriteProgress(self._transport, self._loop.time())
        base_scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "scheme": "http",
            "root_path": "", "server": transport.get_extra_info("sockname"),
            "client": (client := transport.get_extra_info("peername")), "state": self._app_state,
        }  # fmt: skip
        self.address = self.owner = find_network(client[0]) if client else ""
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._parser = RequestParser(self, base_scope, self._add_request)
        self._connections.add(self)
        if not self._table.add(self, self._loop):
            self._refuse(Overloaded())

    def connection_lost(self, _: Exception | None) -> None:
        self._is_lost = self._is_input_closed = True
        self._connections.discard(self)
        self._table.discard(self)
        if self._current is not None:
            self._current.disconnect()
        self._queue.clear()
        self._unparsed = None
        self._wake_writer()
        self._parser.close()
        del self._parser

    def eof_received(self) -> bool:
        """Whether the connection stays open: a response is still due."""
        self.has_eof = True
        if self._current is not None:
            self._current.stop_waiting()
        self._parse_received()
        return not self._is_lingering and not self.is_idle

    def shutdown(self) -> None:
        """Called by uvicorn: answer the requests that have arrived and accept no others."""
        if self.is_idle:
            self.close()
            return
        last = self._queue[-1][0] if self._queue else self._current
        if last is not None:
            last.keep_alive = False
            self._is_input_closed = self._is_input_closed or not last.more_body

    @property
    def is_idle(self) -> bool:
        """Whether no response is due."""
        return self._current is None and not self._queue and self._refusal is None

    @property
    def is_waiting(self) -> bool:
        """Whether the connection waits for its client or for an event: no work is in progress."""
        if self._current is None:
            return self.is_write_paused or self.is_idle
        return self._current.is_waiting or self._writable is not None

    @property
    def held_bytes(self) -> int:
        """Approximate memory that process and kernel hold for the client."""
        held = self._parser.held_bytes + QUEUED_BYTES * len(self._queue)
        if self._unparsed is not None:
            held += len(self._unparsed)
        return held + self._write_progress.unsent_bytes

    def check_timeouts(self, now: float) -> None:
        """Close the connection if its client took too long. Called a few times a second."""
        if self._write_progress.is_stuck(now, self._table.write_timeout_s):
            self.abort()
            return
        if self._transport.get_write_buffer_size():
            self._table.update_held(self)
            if self._is_lingering:
                self.active_at = now  # lingering begins when all is sent
        if self.is_idle and now - self.active_at > self._find_idle_limit_s():
            self.close()

    def _find_idle_limit_s(self) -> float:
        if self._is_lingering:
            return LINGER_S
        return self.keep_alive_s if self._parser.is_between_requests else HEAD_TIMEOUT_S

    def close(self) -> None:
        """Close the connection after all written bytes are sent."""
        self._is_input_closed = True
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once, and discard the bytes in the kernel's send buffer."""
        self._is_input_closed = True
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # -- Input --

    def data_received(self, data: bytes) -> None:
        if self._is_input_closed:
            self._ignore(len(data))
            return
        was_idle = self._parser.is_between_requests and self._current is None
        if self._unparsed is None and len(data) <= SLICE_BYTES:
            self._parse(data)
        else:
            self._unparsed = memoryview(bytes(self._unparsed or b"") + data)
            self._parse_received()
        if was_idle and not self._parser.is_between_requests:
            self.active_at = self._loop.time()
        if self.counted_bytes or self._queue or not self._parser.is_between_requests:
            self._table.update_held(self)
        self._pause_or_resume_reading()

    def _ignore(self, size: int) -> None:
        """Count ignored input; beyond LINGER_BYTES stop reading."""
        self._ignored_bytes += size
        if self._ignored_bytes > LINGER_BYTES and not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _parse_received(self) -> None:
        """Parse received input until a request has to wait or a body is full."""
        while (
            self._unparsed and not self._queue
            and not self._is_body_full and not self._is_input_closed
        ):  # fmt: skip
            piece, self._unparsed = self._unparsed[:SLICE_BYTES], self._unparsed[SLICE_BYTES:]
            self._parse(bytes(piece))
        if self._is_input_closed or not self._unparsed:
            self._unparsed = None
        if self.has_eof and self._unparsed is None and not self._is_input_closed:
            self._is_input_closed = True
            self._fail_body(CUT_OFF)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except Problem as problem:
            if not self._is_input_closed:
                self._refuse(problem)

    def _add_request(self, cycle: RequestCycle, scope: Scope) -> None:
        """Start a parsed request or, while another one is in progress, queue it."""
        if self._current is None and not self.is_write_paused:
            self._start_request(cycle, scope)
        else:
            self._queue.append((cycle, scope))

    @property
    def _is_body_full(self) -> bool:
        cycle = self._parser.cycle
        return cycle is not None and len(cycle.body) > BODY_AHEAD_BYTES

    def _fail_body(self, fault: str) -> bool:
        """Tell an unfinished request that its body will not arrive; whether there was one.

        Its response is then the last one of the connection.
        """
        cycle = self._parser.cycle
        if cycle is None or not cycle.more_body:
            return False
        if cycle.is_complete:
            self._end_responses()
        else:
            cycle.fail_body(fault)
        return True

    def _refuse(self, problem: Problem) -> None:
        """Ignore further input, and send the error after the responses that are due."""
        self._is_input_closed, self._unparsed = True, None
        if not self._parser.is_last and not self._fail_body(problem.message):
            self._refusal = problem
            self._proceed()

    def _pause_or_resume_reading(self) -> None:
        is_ignoring = self._is_lingering and self._ignored_bytes <= LINGER_BYTES
        must_pause = not is_ignoring and (
            self._is_input_closed or bool(self._queue) or self._unparsed is not None
            or self._is_body_full
        )  # fmt: skip
        is_open = not self.has_eof and not self._transport.is_closing()
        if must_pause != self._is_reading_paused and is_open:
            self._is_reading_paused = must_pause
            (self._transport.pause_reading if must_pause else self._transport.resume_reading)()

    def continue_reading(self) -> None:
        """Called after the app has read a part of the body."""
        if not self._is_lost:
            self._parse_received()
            self._pause_or_resume_reading()

    # -- Output --

    def _start_request(self, cycle: RequestCycle, scope: Scope) -> None:
        self._current = cycle
        task = self._loop.create_task(cycle.run(self._config.loaded_app, scope))
        tasks = self._server_state.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    @property
    def default_headers(self) -> Headers:
        """The headers of every response."""
        return self._server_state.default_headers

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._write_progress.written_bytes += len(data)
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until more may be written, or until the connection is lost."""
        while self.is_write_paused and not self._is_lost:
            self._writable = self._loop.create_future()
            try:
                await self._writable
            finally:
                self._writable = None

    def _wake_writer(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def pause_writing(self) -> None:
        self.is_write_paused = True
        self._table.update_held(self)

    def resume_writing(self) -> None:
        self.is_write_paused = False
        self._table.update_held(self)
        self._wake_writer()
        self._proceed()

    def finish(self, cycle: RequestCycle) -> None:
        """Called after a response is complete."""
        self._server_state.total_requests += 1
        self._current = None
        self.active_at = self._loop.time()
        if self._is_lost:
            return
        if self.counted_bytes:
            self._table.update_held(self)
        if cycle.keep_alive:
            self._proceed()
        else:
            self._queue.clear()
            self._end_responses()

    def _proceed(self) -> None:
        """Start the next request, or send the error response, or end the responses."""
        if self._current is not None or self.is_write_paused or self._is_lost:
            return
        if self._queue:
            self._start_request(*self._queue.popleft())
        self._parse_received()
        if self._current is None and self._refusal is not None:
            problem, self._refusal = self._refusal, None
            method = "HEAD" if self._parser.is_head else "GET"
            cycle = RequestCycle(self, {}, method, "1.1", keep_alive=False)
            cycle.respond(problem.status, *self.make_error_response(problem))
        elif self._is_input_closed and self.is_idle:
            self._end_responses()
        self._pause_or_resume_reading()

    def make_error_response(self, problem: Problem) -> tuple[Headers, bytes]:
        """The headers and the body of an error response that the app does not send."""
        request_id = make_request_id()
        facts: dict[str, Any] = {
            "request_id": request_id, "status": problem.status, "reason": problem.message,
        }  # fmt: skip
        if problem.__cause__ is not None:
            facts["cause"] = str(problem.__cause__)
        log.info("connection.refused", **facts)
        body = encode_problem(problem, self._table.doc_url)
        others = [(name.lower().encode(), text.encode()) for name, text in problem.headers.items()]
        headers = [
            (b"content-length", b"%d" % len(body)), (b"content-type", b"application/json"),
            (b"x-request-id", request_id.encode()), *others,
        ]  # fmt: skip
        return headers, body

    def _end_responses(self) -> None:
        """Close the sending side, and then wait until the client closes too (RFC 9112, 9.6).

        If input arrived after a close of both sides, the kernel would send a reset, which may
        destroy the last response before the client has read it.
        """
        self._is_input_closed = True
        if self.has_eof or not self._transport.can_write_eof():
            self.close()
        elif not self._is_lingering:
            self._is_lingering = True
            self._transport.write_eof()
            self._pause_or_resume_reading()


def make_protocol(settings: Settings) -> type[asyncio.Protocol]:
    """The class that uvicorn's setting `http` takes; uvicorn calls it for each connection."""
    table = ConnectionTable(
        settings.max_connections, settings.write_timeout_s, settings.public_docs_url
    )
    return cast("type[asyncio.Protocol]", partial(HttpProtocol, table))
