"""A webhook receiver on loopback: registers itself, verifies each signature, counts events."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from service.cli.listen.api_client import ApiAccess, open_api
from service.cli.listen.listening import register
from service.webhooks.secrets import decode_secret
from service.webhooks.signing import verify


class _LeadRef(msgspec.Struct):
    id: str


class _Data(msgspec.Struct):
    lead: _LeadRef
    version: int


class _Envelope(msgspec.Struct):
    id: str
    type: str
    data: _Data


@dataclass
class Received:
    """How often each event was received, the ids of the leads, and the number of bad signatures."""

    events: Counter[str] = field(default_factory=Counter)
    lead_ids: set[str] = field(default_factory=set)
    bad_signatures: int = 0
    key: bytes = b""


@asynccontextmanager
async def run_receiver(access: ApiAccess) -> AsyncIterator[Received]:
    """Receives `lead.created` events in the context; deletes the endpoint at its end.

    Raises StartError if the API cannot be reached or refuses the endpoint.
    """
    received = Received()

    async def receive(request: web.Request) -> web.Response:
        _count(received, request.headers, await request.read())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with (
            open_api(access) as api,
            register(api, f"http://127.0.0.1:{port}/hook", ["lead.created"]) as webhook,
        ):
            received.key = decode_secret(webhook.secret)
            yield received
    finally:
        await runner.cleanup()


def _count(received: Received, headers: Mapping[str, str], body: bytes) -> None:
    event_id, timestamp = headers["webhook-id"], int(headers["webhook-timestamp"])
    if not verify([received.key], event_id, timestamp, body, headers["webhook-signature"]):
        received.bad_signatures += 1
        return
    envelope = msgspec.json.decode(body, type=_Envelope)
    received.events[event_id] += 1
    received.lead_ids.add(envelope.data.lead.id)
