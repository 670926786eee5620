"""The map: every route, who may call it, what goes in and out; and what lives with the process."""

import asyncio
import gc
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import parent_process
from typing import Any

import msgspec
from redis.asyncio import Redis
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import sql
from service.auth import Authenticator
from service.db import DATABASE_AWAY, Pool, create_pool
from service.docs.openapi import make_document
from service.docs.page import Page, render_page
from service.drain import Drain
from service.errors import Conflict, NotFound, PreconditionFailed, Unprocessable
from service.events import MAX_WAIT_S, EventPage, EventQuery
from service.feed import Feed
from service.handlers import (
    deliveries,
    docs,
    events,
    health,
    keys,
    lead_lists,
    leads,
    replays,
    scores,
    webhooks,
)
from service.http import idempotency
from service.http.call import Operation, Resource, State
from service.http.deadlines import Deadlines
from service.http.edge import Edge
from service.http.routing import SegmentRouter
from service.keys import KeyList, KeyRequest, KeyRotation, NewKey
from service.launch import bind_to_parent
from service.leads.list_query import ListQuery
from service.leads.scores import LeadScore
from service.leads.search import LeadSearch
from service.leads.search_query import SearchPage, SearchQuery
from service.leads.store import HOLD_S, LeadStore
from service.limits.limiter import Limiter
from service.logs import set_up_logging
from service.models import Lead, LeadDetail, LeadPage, LeadPatch, NewLead
from service.settings import Settings, load_settings
from service.shedding import Gate
from service.wakeups import Wakeups
from service.webhooks.changes import EndpointPatch, RotatedSecret
from service.webhooks.deliveries import DeliveryDetail, DeliveryPage, DeliveryQuery, DeliveryStarted
from service.webhooks.endpoints import CreatedEndpoint, Endpoint, EndpointList, NewEndpoint
from service.webhooks.replays import Replay, ReplayList, ReplayRequest

PREFIXES = ("/v1", "/api/v1")
TOUCH_KEYS_EVERY_S = 5.0
GARBAGE_AFTER = 50_000
"""Objects more than there were, before cycles are looked for: a crowd of requests is no garbage."""

# fmt: off
API = [
    Operation(method="POST", path="/leads", handler=leads.capture_lead, scope="write",
              summary="Create a lead", body=NewLead, reply=Lead, status=201, keeps_answer=True,
              has_etag=True, errors=(Conflict, Unprocessable)),
    Operation(method="GET", path="/leads", handler=lead_lists.list_leads, scope="read",
              summary="List leads", query=ListQuery, reply=LeadPage, errors=(Unprocessable,),
              stands_in_line=True),
    Operation(method="GET", path="/leads/search", handler=lead_lists.search_leads, scope="read",
              summary="Search leads", query=SearchQuery, reply=SearchPage),
    Operation(method="GET", path="/leads/{id}", handler=leads.get_lead, scope="read",
              summary="Get one lead", reply=LeadDetail, has_etag=True),
    Operation(method="PATCH", path="/leads/{id}", handler=leads.update_lead, scope="write",
              summary="Change a lead", body=LeadPatch, reply=Lead, keeps_answer=True,
              has_etag=True, errors=(Conflict, PreconditionFailed, Unprocessable)),
    Operation(method="DELETE", path="/leads/{id}", handler=leads.delete_lead, scope="admin",
              summary="Delete a lead", status=204, errors=(PreconditionFailed,)),
    Operation(method="GET", path="/leads/{id}/score", handler=scores.get_score, scope="read",
              summary="Why a lead has its score", reply=LeadScore),
    Operation(method="GET", path="/events", handler=events.list_events, scope="read",
              summary="Read the log: every event, in order, after a cursor", query=EventQuery,
              reply=EventPage, may_wait_s=MAX_WAIT_S),
    Operation(method="POST", path="/api-keys", handler=keys.create_api_key, scope="admin",
              summary="Create an API key", body=KeyRequest, reply=NewKey, status=201,
              shows_secret=True, errors=(Unprocessable,)),
    Operation(method="GET", path="/api-keys", handler=keys.list_api_keys, scope="admin",
              summary="List API keys", reply=KeyList),
    Operation(method="DELETE", path="/api-keys/{id}", handler=keys.revoke_api_key, scope="admin",
              summary="Revoke an API key", status=204),
    Operation(method="POST", path="/api-keys/{id}/rotate", handler=keys.rotate_api_key,
              scope="admin", summary="Rotate an API key", body=KeyRotation, reply=NewKey,
              status=201, shows_secret=True),
    Operation(method="POST", path="/webhooks", handler=webhooks.create_webhook, scope="admin",
              summary="Create a webhook", body=NewEndpoint, reply=CreatedEndpoint, status=201,
              shows_secret=True, errors=(Unprocessable,)),
    Operation(method="GET", path="/webhooks", handler=webhooks.list_webhooks, scope="admin",
              summary="List webhooks", reply=EndpointList),
    Operation(method="GET", path="/webhooks/{id}", handler=webhooks.get_webhook, scope="admin",
              summary="Get one webhook", reply=Endpoint),
    Operation(method="PATCH", path="/webhooks/{id}", handler=webhooks.update_webhook, scope="admin",
              summary="Change, pause or enable a webhook", body=EndpointPatch, reply=Endpoint,
              errors=(Unprocessable,)),
    Operation(method="DELETE", path="/webhooks/{id}", handler=webhooks.delete_webhook,
              scope="admin", summary="Delete a webhook", status=204),
    Operation(method="POST", path="/webhooks/{id}/rotate-secret",
              handler=webhooks.rotate_webhook_secret, scope="admin",
              summary="Make a new secret; the old one signs beside it for 24 hours",
              reply=RotatedSecret, shows_secret=True, errors=(Conflict,)),
    Operation(method="POST", path="/webhooks/{id}/test", handler=deliveries.test_webhook,
              scope="admin", summary="Send a test event", reply=DeliveryStarted, status=202,
              errors=(Conflict,)),
    Operation(method="GET", path="/webhooks/{id}/deliveries",
              handler=deliveries.list_webhook_deliveries, scope="admin", summary="List deliveries",
              query=DeliveryQuery, reply=DeliveryPage),
    Operation(method="GET", path="/webhooks/{id}/deliveries/{deliveryId}",
              handler=deliveries.get_webhook_delivery, scope="admin",
              summary="Get a delivery with its attempts", reply=DeliveryDetail),
    Operation(method="POST", path="/webhooks/{id}/deliveries/{deliveryId}/resend",
              handler=deliveries.resend_webhook_delivery, scope="admin",
              summary="Send a delivery again", reply=DeliveryStarted, status=202,
              errors=(Conflict,)),
    Operation(method="POST", path="/webhooks/{id}/replay", handler=replays.start_webhook_replay,
              scope="admin", summary="Send again what was sent in a time range",
              body=ReplayRequest, reply=Replay, status=202, errors=(Conflict, Unprocessable)),
    Operation(method="GET", path="/webhooks/{id}/replays", handler=replays.list_webhook_replays,
              scope="admin", summary="List replays", reply=ReplayList),
    Operation(method="GET", path="/webhooks/{id}/replays/{replayId}",
              handler=replays.get_webhook_replay, scope="admin",
              summary="See how far a replay has come", reply=Replay),
    Operation(method="DELETE", path="/webhooks/{id}/replays/{replayId}",
              handler=replays.cancel_webhook_replay, scope="admin", summary="Cancel a replay",
              status=204, errors=(Conflict,)),
]
"""The API, under both prefixes. Where two paths fit, the first wins: search before {id}."""

SERVICE = [
    Operation(method="GET", path="/health/live", handler=health.report_live, scope=None,
              summary="Is the process alive?", reply=health.Health),
    Operation(method="GET", path="/health/ready", handler=health.report_ready, scope=None,
              summary="Can it serve requests?", reply=health.Health, also={503: health.Health}),
    Operation(method="GET", path="/metrics", handler=health.report_metrics, scope=None,
              summary="Prometheus metrics", media_type="text/plain"),
    Operation(method="GET", path="/openapi.json", handler=docs.send_openapi, scope=None,
              summary="The API's description, OpenAPI 3.1", media_type="application/json"),
    Operation(method="GET", path="/docs", handler=docs.send_docs, scope=None,
              summary="This page", media_type="text/html"),
]
"""The service's own routes, without a prefix."""
# fmt: on


def create_served_app() -> ASGIApp:
    """The app of a process of `leadlog serve`, which ends in order when it is told to."""
    if (parent := parent_process()) is not None:  # one of several: must not outlive who restarts it
        bind_to_parent(signal.SIGTERM, parent.pid)
    settings = load_settings(os.environ)
    return create_app(settings, hears_signals=True)


def create_app(settings: Settings, *, hears_signals: bool = False) -> ASGIApp:
    """The ASGI app; with `hears_signals` it is this process's only one, and hears when to end."""
    set_up_logging(settings)
    routes = [*_make_routes(API, *PREFIXES), *_make_routes(SERVICE, "")]

    gate = Gate(settings.shed_after_s)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[dict[str, State]]:
        async with run_state(settings, gate) as state, gate.watching():
            if hears_signals:
                state.drain.catch_signal(state.feed.close)
                gc.freeze()  # what is here now stays; looking through it again and again is work
                gc.set_threshold(GARBAGE_AFTER, 20, 20)
            yield {"leadlog": state}

    router = SegmentRouter(routes, redirect_slashes=False, default=_find_nothing, lifespan=lifespan)
    return Edge(router, settings.public_docs_url, gate, PREFIXES)


@asynccontextmanager
async def run_state(settings: Settings, gate: Gate) -> AsyncIterator[State]:
    """Opens what the process holds; nothing here waits for the database or Redis to be there."""
    redis = Redis.from_url(settings.require_redis_url())
    late_after_s = settings.shed_after_s
    # Batches have connections of their own, so that a flood of lists and searches cannot hold up
    # what is quick; and those wait in a line of their own, which refuses who would wait too long.
    for_batches = settings.db_pool_size // 2
    async with (
        await create_pool(settings, "leadlog-api", for_batches, HOLD_S) as batched,
        await create_pool(
            settings, "leadlog-api", settings.db_pool_size - for_batches, HOLD_S,
            late_after_s,
        ) as pool,
    ):  # fmt: skip
        wakeups = Wakeups(redis)
        auth = Authenticator(batched, late_after_s, settings.default_plan)
        limiter = Limiter(settings.require_redis_url())
        toucher = asyncio.create_task(_touch_keys_forever(auth, batched))
        feed, deadlines = Feed(batched, wakeups), Deadlines()
        async with (
            wakeups.running(listening=True), feed.running(), limiter.running(), deadlines.running(),
        ):  # fmt: skip
            yield State(
                settings, pool, batched, auth, limiter, LeadStore(batched, wakeups, late_after_s),
                LeadSearch(pool, limit_s=2 * late_after_s), wakeups, feed,
                *describe_api(settings), Drain(settings.drain_s), deadlines,
                gate,
            )  # fmt: skip
        toucher.cancel()
        await asyncio.gather(toucher, return_exceptions=True)
        await _touch_keys(auth, batched)
    await redis.aclose()


def describe_api(settings: Settings) -> tuple[bytes, Page]:
    """The OpenAPI document and the page made from it."""
    document = make_document(API, SERVICE, settings.public_docs_url)
    return msgspec.json.encode(document), render_page(document)


def _make_routes(operations: list[Operation], *prefixes: str) -> list[Route]:
    by_path: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        once = operation.method in idempotency.METHODS
        handler = idempotency.do_once(operation) if once else operation.handler
        by_path[operation.path].append(replace(operation, handler=handler))
    resources = {path: Resource(found) for path, found in by_path.items()}
    return [Route(prefix + path, found) for prefix in prefixes for path, found in resources.items()]


async def _find_nothing(scope: Scope, _: Receive, __: Send) -> None:
    raise NotFound(f"There is no route {scope['path'][:200]}; /openapi.json lists them.")


async def _touch_keys_forever(auth: Authenticator, pool: Pool) -> None:
    """Writes down when each key was last used, a few seconds late and for many at once."""
    while True:
        await asyncio.sleep(TOUCH_KEYS_EVERY_S)
        await _touch_keys(auth, pool)


async def _touch_keys(auth: Authenticator, pool: Pool) -> None:
    used = auth.take_used()
    if not used:
        return
    moments = [datetime.fromtimestamp(int(at), UTC) for at in used.values()]
    with suppress(*DATABASE_AWAY):  # the next use will tell
        await pool.execute(sql.api_key_touch_many, list(used), moments)
