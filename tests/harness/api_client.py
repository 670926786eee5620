"""The real app on a real server on loopback, and a client with short calls."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import uvicorn
from yarl import URL

from service.access.api_keys import Scope
from service.app import create_app
from service.http.server.protocol import make_protocol
from service.settings import Settings
from tests.harness.factories import Tenant


class Server(uvicorn.Server):
    """uvicorn in the event loop of the tests; it does not handle the process's signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve_api(settings: Settings) -> AsyncIterator[str]:
    """Runs the app as `leadlog serve` does; yields its URL."""
    config = uvicorn.Config(
        create_app(settings), http=make_protocol(settings), ws="none", access_log=False,
        log_config=None, server_header=False, lifespan="on", timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = Server(config)
    # asyncio sets TCP_NODELAY only if the protocol is named; else each response is 40 ms late.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if serving.done():
                serving.result()
                raise RuntimeError("the server ended at its start")
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()


@dataclass(frozen=True)
class ApiResponse:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """The `error` object of an error response."""
        return self.json["error"]


@dataclass(frozen=True)
class Api:
    """A caller of the API: a tenant's admin in live mode, unless told otherwise.

    `api.as_("read")`, `api.as_(live=False)` and `api.of(other_tenant)` return other callers;
    `key=None` sends no key at all.
    """

    url: str
    session: aiohttp.ClientSession = field(repr=False)
    tenant: Tenant
    key: str | None = field(repr=False)

    def as_(self, scope: Scope = "admin", *, live: bool = True) -> "Api":
        return replace(self, key=self.tenant.key(scope, live=live))

    def of(self, tenant: Tenant) -> "Api":
        return replace(self, tenant=tenant, key=tenant.key())

    def with_key(self, key: str | None) -> "Api":
        return replace(self, key=key)

    async def get(self, path: str, **parameters: Any) -> ApiResponse:
        """GET with query parameters; names with brackets by `**{"customFields[a]": 1}`."""
        return await self.call("GET", path, params=parameters)

    async def post(self, path: str, body: Any) -> ApiResponse:
        return await self.call("POST", path, json.dumps(body))

    async def patch(self, path: str, body: Any) -> ApiResponse:
        return await self.call("PATCH", path, json.dumps(body))

    async def put(self, path: str, body: Any) -> ApiResponse:
        return await self.call("PUT", path, json.dumps(body))

    async def delete(self, path: str) -> ApiResponse:
        return await self.call("DELETE", path)

    async def call(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        *,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> ApiResponse:
        """Sends the path and the body exactly as they are given."""
        sent = {} if body is None else {"Content-Type": "application/json"}
        if self.key is not None:
            sent["Authorization"] = f"Bearer {self.key}"
        if params:
            path = f"{path}?{URL.build(query=params).raw_query_string}"
        async with self.session.request(
            method,
            URL(self.url + path, encoded=True),
            data=body,
            headers=sent | (headers or {}),
            allow_redirects=False,
            auto_decompress=False,
        ) as response:
            names = {name.lower(): value for name, value in response.headers.items()}
            return ApiResponse(response.status, names, await response.read())
