"""The receiver of `leadlog listen`: registers a webhook, receives and verifies requests."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import msgspec
from aiohttp import web

from service.cli.address import check_port
from service.cli.listen.api_client import ApiClient, ApiError
from service.cli.listen.forwarding import Forwarder
from service.cli.processes import StartError
from service.webhooks.signing import verify
from sql.errors import describe_error

TOLERANCE_S = 300
"""How far a timestamp may be from now, as Standard Webhooks suggests."""
MAX_TIMESTAMP_DIGITS = 12
MAX_BODY_BYTES = 1024 * 1024
UNREGISTER_S = 10.0
"""The time to delete the webhook, also after Ctrl-C while the API does not respond."""
RETRY_S = 0.5


class Webhook(msgspec.Struct, rename="camel"):
    """A webhook that was registered."""

    id: str
    secret: str
    created_at: str


class ReceivedRequest(msgspec.Struct, kw_only=True):
    """A request, the result of its verification, and the response."""

    path: str
    event_id: str
    attempt: str
    fault: str | None
    """The reason why the verification failed; None: it succeeded."""
    body: bytes
    status: int
    """The status of our response."""
    forwarded: int | None
    """The status of the response to the forwarded request; 502: there was none."""
    forward_fault: str | None = None
    """The reason why there was no response to the forwarded request."""


class Listener:
    """Verifies requests with `keys`, responds, and passes each to `show`.

    The verified requests are also passed to the forwarder, if there is one. The listener then
    responds with the status of the forwarder's response, unless `status` is set.
    """

    def __init__(
        self,
        show: Callable[[ReceivedRequest], None],
        *,
        status: int | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.keys: list[bytes] = []
        self.forwarder: Forwarder | None = None
        self.on_closed_output: Callable[[str | None], None] = lambda _: None
        """Called when `show` cannot write any more, with the fault; None: the reader has ended."""
        self._show = show
        self._status = status
        self._delay_s = delay_s

    async def receive(self, request: web.Request) -> web.Response:
        """Responds with the chosen status, or with 400 if the verification fails."""
        body = await request.read()
        status = await self.process(request.path_qs, request.headers, body)
        await asyncio.sleep(self._delay_s)
        return web.Response(status=status)

    async def process(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Verifies, forwards and shows a request; returns the status of the response."""
        fault = find_fault(self.keys, headers, body, time.time())
        forwarded, forward_fault = None, None
        if fault is None and self.forwarder is not None:
            forwarded, forward_fault = await self.forwarder.forward(headers, body)
        status = (
            400 if fault is not None else self._status or forwarded or HTTPStatus.NO_CONTENT.value
        )
        received = ReceivedRequest(
            path=path,
            event_id=headers.get("webhook-id", ""),
            attempt=headers.get("webhook-attempt", ""),
            fault=fault,
            body=body,
            status=status,
            forwarded=forwarded,
            forward_fault=forward_fault,
        )
        try:
            self._show(received)
        except BrokenPipeError:
            self.on_closed_output(None)
        except OSError as error:  # such as a full disk
            self.on_closed_output(f"The output cannot be written: {error.strerror or error}.")
        return status


def find_fault(
    keys: list[bytes], headers: Mapping[str, str], body: bytes, now: float
) -> str | None:
    """The reason why the verification of a request fails; None if one of the keys signed it."""
    try:
        event_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        signature = headers["webhook-signature"]
    except KeyError as error:
        return f"no header {error.args[0]}"
    if (
        not timestamp.isascii()
        or not timestamp.isdecimal()
        or len(timestamp) > MAX_TIMESTAMP_DIGITS
    ):
        return "the timestamp is no number"
    if abs(now - int(timestamp)) > TOLERANCE_S:
        return f"the timestamp is more than {TOLERANCE_S} s off"
    if not verify(keys, event_id, int(timestamp), body, signature):
        return "no signature fits the secret"
    return None


@asynccontextmanager
async def serve_listener(listener: Listener, host: str, port: int) -> AsyncIterator[str]:
    """Yields the URL of the listener. Raises StartError if it cannot listen."""
    check_port(host, port, "--port", "--host")
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
async def register(api: ApiClient, own_url: str, events: list[str]) -> AsyncIterator[Webhook]:
    """Registers a webhook and deletes it at the end; yields it, with its secret.

    Raises StartError if the API refuses it.
    """
    webhook = await api.call("POST", "/v1/webhooks", Webhook, {"url": own_url, "events": events})
    try:
        yield webhook
    finally:
        await _unregister(api, webhook.id)


async def _unregister(api: ApiClient, webhook_id: str) -> None:
    """Deletes the webhook. Raises StartError if the API does not do so within UNREGISTER_S."""
    reason = f"no response within {UNREGISTER_S:g} s"
    try:
        async with asyncio.timeout(UNREGISTER_S):
            while True:
                try:
                    return await api.delete(f"/v1/webhooks/{webhook_id}")
                except ApiError as error:
                    if error.status == HTTPStatus.NOT_FOUND:
                        return None  # it was deleted by someone else
                    reason = f"status {error.status}"
                except StartError as error:
                    reason = describe_error(error)
                await asyncio.sleep(RETRY_S)
    except TimeoutError:
        raise StartError(
            f"The webhook {webhook_id} could not be removed ({reason}): "
            "delete it when the API runs again."
        ) from None
