"""HTTP responses: each is complete before it is sent, so one write sends it."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from starlette.types import Send

from service.errors import Problem, encode_problem
from service.http.server.cycle import RequestCycle
from service.http.server.fields import Headers

JSON = "application/json"
HTML = "text/html; charset=utf-8"


class Response:
    """Status, headers and body. Without a body (204, 304) neither length nor type is sent."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        body: bytes | None,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        media_type: str = JSON,
    ) -> None:
        self.status = status
        self.body = body or b""
        self.headers: list[tuple[bytes, bytes]] = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
        ]
        if body is not None:
            self.headers.append((b"content-length", b"%d" % len(body)))
            self.headers.append((b"content-type", media_type.encode()))

    def find_header(self, name: bytes) -> str | None:
        """The value of the header with this name, which is in lower case."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)

    async def send(self, cycle: RequestCycle | None, send: Send, extra: Headers) -> None:
        """Send it with `extra` headers: in one call to our own server, else as ASGI messages."""
        headers = [*self.headers, *extra]
        if cycle is not None:
            cycle.respond(self.status, headers, self.body)
            return
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class StaticPage(msgspec.Struct, frozen=True):
    """A page or file that is rendered once, with its ETag.

    `is_fixed`: its path changes with its contents, so clients may keep it for ever.
    """

    body: bytes
    media_type: str
    status: int = 200
    is_fixed: bool = False
    etag: str = ""

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.body).hexdigest()[:16]
        msgspec.structs.force_setattr(self, "etag", f'"{digest}"')


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Make a JSON response; a value of type bytes is JSON already."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(body, status, (headers or {}).items())


def reply_list(entries: str) -> Response:
    """Make the response of a list without pages; `entries` is JSON objects, separated by commas."""
    return reply(b'{"data":[%b]}' % entries.encode())


def no_content() -> Response:
    """Make a response with status 204."""
    return Response(None, 204)


def explain(problem: Problem, doc_url: str) -> Response:
    """Make the response for a problem."""
    return Response(encode_problem(problem, doc_url), problem.status, problem.headers.items())
