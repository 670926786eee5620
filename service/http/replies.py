"""Replies that are there as a whole, and so leave in one write."""

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.http.exchange import Exchange


class Reply(Response):
    """JSON or no body, with headers that need no thought: Starlette's own takes 4 µs for them."""

    def __init__(
        self, body: bytes | None, status: int, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Without a body (204, 304) there is neither its length nor its type."""
        self.status_code = status
        self.background = None
        self.body = body or b""
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
        ]
        if body is not None:
            length = (b"content-length", b"%d" % len(body))
            self.raw_headers += (length, (b"content-type", b"application/json"))

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        body = bytes(self.body)
        if isinstance(send, Exchange) and send.answer(self.status_code, self.raw_headers, body):
            return
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        await send({"type": "http.response.body", "body": body})


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """A JSON reply; bytes are taken as JSON already made."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Reply(body, status, (headers or {}).items())


def no_content() -> Reply:
    """204."""
    return Reply(None, 204)
