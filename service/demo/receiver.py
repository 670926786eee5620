"""A webhook receiver on loopback that registers itself, checks every signature and counts."""

import hmac
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import msgspec
from aiohttp import web

from service.webhooks.endpoints import decode_secret
from workers.delivery.signing import sign


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
    """What has arrived: how often each event, which leads, and what was wrong."""

    events: Counter[str] = field(default_factory=Counter)
    lead_ids: set[str] = field(default_factory=set)
    bad_signatures: int = 0
    key: bytes = b""


@asynccontextmanager
async def run_receiver(url: str, key: str) -> AsyncIterator[Received]:
    """Receives `lead.created` while entered; the endpoint is deleted at the end."""
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
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with aiohttp.ClientSession(url, headers=headers) as session:
            body = {"url": f"http://127.0.0.1:{port}/hook", "events": ["lead.created"]}
            async with session.post("/v1/webhooks", json=body) as response:
                endpoint = await response.json()
                if response.status != 201:  # noqa: PLR2004
                    raise RuntimeError(f"no webhook: {endpoint}")
            received.key = decode_secret(endpoint["secret"])
            try:
                yield received
            finally:
                await (await session.delete(f"/v1/webhooks/{endpoint['id']}")).release()
    finally:
        await runner.cleanup()


def _count(received: Received, headers: Mapping[str, str], body: bytes) -> None:
    event_id, timestamp = headers["webhook-id"], int(headers["webhook-timestamp"])
    wanted = sign([received.key], event_id, timestamp, body)
    if not hmac.compare_digest(wanted, headers["webhook-signature"]):
        received.bad_signatures += 1
        return
    envelope = msgspec.json.decode(body, type=_Envelope)
    received.events[event_id] += 1
    received.lead_ids.add(envelope.data.lead.id)
