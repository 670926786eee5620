"""A subscriber's end of a webhook: registers itself, receives, verifies; for `leadlog listen`."""

import asyncio
import base64
import binascii
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import msgspec
from aiohttp import web

from service.processes import StartError
from service.webhooks import decode_secret

TOLERANCE_S = 300
"""How far a timestamp may be from now, as Standard Webhooks suggests."""
MAX_BODY_BYTES = 1024 * 1024
_CREATED = 201


class Heard(msgspec.Struct):
    """A request as it came in, and whether it may be believed."""

    path: str
    event_id: str
    attempt: str
    fault: str | None
    """Why the signature does not hold; null: it does."""
    body: bytes
    answered: int


class Listener:
    """What to answer, and whom to tell; `keys` verify."""

    def __init__(
        self, tell: Callable[[Heard], None], *, status: int = 204, delay_s: float = 0.0
    ) -> None:
        self.keys: list[bytes] = []
        self._tell = tell
        self._status = status
        self._delay_s = delay_s

    async def receive(self, request: web.Request) -> web.Response:
        """Answers with the chosen status, or 400 where the signature does not hold."""
        body = await request.read()
        fault = find_fault(self.keys, request.headers, body, time.time())
        answered = self._status if fault is None else 400
        self._tell(
            Heard(
                path=request.path_qs,
                event_id=request.headers.get("webhook-id", ""),
                attempt=request.headers.get("webhook-attempt", ""),
                fault=fault,
                body=body,
                answered=answered,
            )
        )
        await asyncio.sleep(self._delay_s)
        return web.Response(status=answered)


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
    api_url: str, api_key: str, own_url: str, events: list[str]
) -> AsyncIterator[dict[str, Any]]:
    """A webhook that lives while this is entered, as the API shows it, secret included.

    Raises StartError if the API does not take it.
    """
    headers = {"Authorization": f"Bearer {api_key}"}
    async with aiohttp.ClientSession(api_url, headers=headers) as session:
        made = await _post_webhook(session, {"url": own_url, "events": events})
        try:
            yield made
        finally:
            async with session.delete(f"/v1/webhooks/{made['id']}"):
                pass


async def _post_webhook(session: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    try:
        async with session.post("/v1/webhooks", json=body) as response:
            answer: dict[str, Any] = await response.json()
            status = response.status
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise StartError(
            f"No Leadlog answers there ({error}): is `leadlog dev` running, and is --url right?"
        ) from error
    if status != _CREATED:
        raise StartError(f"The API did not take the webhook: {answer['error']['message']}")
    return answer


async def listen_until(
    stop: Callable[[], Awaitable[object]],
    listener: Listener,
    address: tuple[str, int],
    api: tuple[str, str] | None,
    events: list[str],
    ready: Callable[[str], None],
) -> None:
    """Listens until `stop` returns, registered with the API if there is one (its URL and a key)."""
    async with serve_listener(listener, *address) as own_url:
        if api is None:
            ready(own_url)
            await stop()
            return
        async with register(*api, own_url, events) as made:
            listener.keys.append(decode_secret(cast(str, made["secret"])))
            ready(own_url)
            await stop()
