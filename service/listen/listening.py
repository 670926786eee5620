"""A subscriber's end of a webhook: registers itself, receives, verifies; for `leadlog listen`."""

import asyncio
import base64
import binascii
import hmac
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from service.listen.api_client import call_api
from service.listen.forwarding import Forwarder
from service.processes import StartError

TOLERANCE_S = 300
"""How far a timestamp may be from now, as Standard Webhooks suggests."""
MAX_BODY_BYTES = 1024 * 1024
NO_CONTENT = 204


class Heard(msgspec.Struct):
    """A request as it came in, and whether it may be believed."""

    path: str
    event_id: str
    attempt: str
    fault: str | None
    """Why the signature does not hold; null: it does."""
    body: bytes
    answered: int
    forwarded: int | None
    """What the server it was passed on to answered; 502: it did not."""


class Listener:
    """What to answer, and whom to tell; `keys` verify.

    With a forwarder, what is believed is passed on, and its answer is ours unless one was chosen.
    """

    def __init__(
        self, tell: Callable[[Heard], None], *, status: int | None = None, delay_s: float = 0.0
    ) -> None:
        self.keys: list[bytes] = []
        self.forwarder: Forwarder | None = None
        self._tell = tell
        self._status = status
        self._delay_s = delay_s

    async def receive(self, request: web.Request) -> web.Response:
        """Answers with the chosen status, or 400 where the signature does not hold."""
        body = await request.read()
        answered = await self.hear(request.path_qs, request.headers, body)
        await asyncio.sleep(self._delay_s)
        return web.Response(status=answered)

    async def hear(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Verifies, passes on, tells; the status to answer."""
        fault = find_fault(self.keys, headers, body, time.time())
        forwarded = None
        if fault is None and self.forwarder is not None:
            forwarded = await self.forwarder.pass_on(headers, body)
        answered = 400 if fault is not None else self._status or forwarded or NO_CONTENT
        self._tell(
            Heard(
                path=path,
                event_id=headers.get("webhook-id", ""),
                attempt=headers.get("webhook-attempt", ""),
                fault=fault,
                body=body,
                answered=answered,
                forwarded=forwarded,
            )
        )
        return answered


def find_fault(
    keys: list[bytes], headers: Mapping[str, str], body: bytes, now: float
) -> str | None:
    """Why a request is not to be believed, in a few words; None if one of the keys signed it."""
    try:
        event_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        signatures = headers["webhook-signature"].split(" ")
    except KeyError as error:
        return f"no header {error.args[0]}"
    if not timestamp.isascii() or not timestamp.isdecimal() or len(timestamp) > 12:  # noqa: PLR2004
        return "the timestamp is no number"
    if abs(now - int(timestamp)) > TOLERANCE_S:
        return f"the timestamp is more than {TOLERANCE_S} s off"
    message = b"%b.%b.%b" % (event_id.encode(), timestamp.encode(), body)
    wanted = [hmac.digest(key, message, "sha256") for key in keys]
    found = [_decode(part) for part in signatures]
    if any(hmac.compare_digest(one, other) for one in wanted for other in found):
        return None
    return "no signature fits the secret"


def _decode(signature: str) -> bytes:
    version, _, text = signature.partition(",")
    try:
        return base64.b64decode(text, validate=True) if version == "v1" else b""
    except (binascii.Error, ValueError):
        return b""


@asynccontextmanager
async def serve_listener(listener: Listener, host: str, port: int) -> AsyncIterator[str]:
    """The address it listens at. Raises StartError if it cannot."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/{path:.*}", listener.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise StartError(f"Cannot listen on {host} port {port}: {error.strerror}.") from error
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def register(
    session: aiohttp.ClientSession, own_url: str, events: list[str]
) -> AsyncIterator[dict[str, Any]]:
    """A webhook that lives while this is entered, as the API shows it, secret included.

    Raises StartError if the API does not take it.
    """
    body = {"url": own_url, "events": events}
    made: dict[str, Any] = msgspec.json.decode(
        await call_api(session, "POST", "/v1/webhooks", body)
    )
    try:
        yield made
    finally:
        async with session.delete(f"/v1/webhooks/{made['id']}"):
            pass
