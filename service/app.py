"""The route table, and the objects that live as long as the process."""

import asyncio
import gc
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import msgspec
from redis.asyncio import Redis
from starlette.types import ASGIApp

import sql
from service.access.api_keys import KeyList, KeyRequest, KeyRotation, NewKey
from service.access.authentication import Authenticator
from service.database.clock import Clock, compare_forever
from service.database.connect import DATABASE_AWAY, Connector, Pool, create_pool
from service.database.database_watch import DatabaseWatch
from service.database.hidden_numbers import HiddenNumbers
from service.docs.openapi.document import make_document
from service.docs.site import DocsSite
from service.errors import (
    Conflict,
    NotFound,
    PreconditionFailed,
    Unauthorized,
    Unprocessable,
)
from service.events.feed import MAX_WAIT_S, EventQuery
from service.events.long_poll import LongPollNotifier
from service.events.wake_ups import Wakeups
from service.handlers import (
    api_keys,
    deliveries,
    documents,
    events,
    health,
    lead_lists,
    leads,
    replays,
    scores,
    webhooks,
)
from service.http.deadlines import Deadlines
from service.http.graceful_shutdown import GracefulShutdown
from service.http.middleware import Middleware
from service.http.operations import AnyQuery, Operation
from service.http.resource import Resource
from service.http.router import SegmentRouter
from service.http.server.protocol import make_protocol
from service.http.state import State
from service.leads.listing.query import ListQuery
from service.leads.models import Lead, LeadDetail, LeadPage, LeadPatch, NewLead
from service.leads.scores import LeadScore
from service.leads.search.lead_search import LeadSearch
from service.leads.search.query import SearchPage, SearchQuery
from service.leads.store import LOCK_WAIT_S, LeadStore
from service.load.keyed_semaphore import KeyedSemaphore
from service.load.load_shedder import LoadShedder
from service.rate_limits.limiter import Limiter
from service.settings import Settings
from service.telemetry.logging import set_up_logging
from service.telemetry.metrics_server import MetricsPage, serving_metrics
from service.webhooks.deliveries import (
    DeliveryDetail,
    DeliveryPage,
    DeliveryQuery,
    DeliveryStarted,
    WebhookTest,
)
from service.webhooks.endpoint_update import EndpointPatch, RotatedSecret
from service.webhooks.endpoints import CreatedEndpoint, Endpoint, EndpointList, NewEndpoint
from service.webhooks.event_models import EventPage
from service.webhooks.replays import Replay, ReplayList, ReplayRequest

PREFIXES = ("/v1", "/api/v1")
TOUCH_KEYS_EVERY_S = 5.0
GARBAGE_AFTER = 50_000
"""New objects before the garbage collector runs. The objects of a crowd of requests are in use."""

# fmt: off
API = [
    Operation(method="POST", path="/leads", handler=leads.capture_lead, scope="write",
              summary="Create a lead", body=NewLead, reply=Lead, status=201, has_etag=True,
              stores_idempotent_response=True, errors=(Conflict, Unprocessable)),
    Operation(method="GET", path="/leads", handler=lead_lists.list_leads, scope="read",
              summary="List leads", query=ListQuery, reply=LeadPage, errors=(Unprocessable,),
              shed_first=True),
    Operation(method="GET", path="/leads/search", handler=lead_lists.search_leads, scope="read",
              summary="Search leads", query=SearchQuery, reply=SearchPage),
    Operation(method="GET", path="/leads/{id}", handler=leads.get_lead, scope="read",
              summary="Get one lead", reply=LeadDetail, has_etag=True),
    Operation(method="PATCH", path="/leads/{id}", handler=leads.update_lead, scope="write",
              summary="Change a lead", body=LeadPatch, reply=Lead, stores_idempotent_response=True,
              has_etag=True, errors=(Conflict, PreconditionFailed, Unprocessable)),
    Operation(method="DELETE", path="/leads/{id}", handler=leads.delete_lead, scope="admin",
              summary="Delete a lead", status=204, errors=(PreconditionFailed,)),
    Operation(method="GET", path="/leads/{id}/score", handler=scores.get_score, scope="read",
              summary="Get the score of a lead, and why", reply=LeadScore),
    Operation(method="GET", path="/events", handler=events.list_events, scope="read",
              summary="Read the events feed: every event, in order", query=EventQuery,
              reply=EventPage, names_tenant=True, may_wait_s=MAX_WAIT_S),
    Operation(method="POST", path="/api-keys", handler=api_keys.create_api_key, scope="admin",
              summary="Create an API key", body=KeyRequest, reply=NewKey, status=201,
              shows_secret=True, errors=(Unprocessable,)),
    Operation(method="GET", path="/api-keys", handler=api_keys.list_api_keys, scope="admin",
              summary="List API keys", reply=KeyList),
    Operation(method="DELETE", path="/api-keys/{id}", handler=api_keys.revoke_api_key,
              scope="admin", summary="Revoke an API key", status=204),
    Operation(method="POST", path="/api-keys/{id}/rotate", handler=api_keys.rotate_api_key,
              scope="admin", summary="Rotate an API key", body=KeyRotation, reply=NewKey,
              status=201, shows_secret=True, errors=(Unprocessable,)),
    Operation(method="POST", path="/webhooks", handler=webhooks.create_webhook, scope="admin",
              summary="Create a webhook", body=NewEndpoint, reply=CreatedEndpoint, status=201,
              shows_secret=True, errors=(Unprocessable,)),
    Operation(method="GET", path="/webhooks", handler=webhooks.list_webhooks, scope="admin",
              summary="List webhooks", reply=EndpointList),
    Operation(method="GET", path="/webhooks/{id}", handler=webhooks.get_webhook, scope="admin",
              summary="Get one webhook", reply=Endpoint),
    Operation(method="PATCH", path="/webhooks/{id}", handler=webhooks.update_webhook, scope="admin",
              summary="Pause, resume or change a webhook", body=EndpointPatch, reply=Endpoint,
              errors=(Unprocessable,)),
    Operation(method="DELETE", path="/webhooks/{id}", handler=webhooks.delete_webhook,
              scope="admin", summary="Delete a webhook", status=204),
    Operation(method="POST", path="/webhooks/{id}/rotate-secret",
              handler=webhooks.rotate_webhook_secret, scope="admin",
              summary="Rotate the secret of a webhook",
              reply=RotatedSecret, shows_secret=True, errors=(Conflict,)),
    Operation(method="POST", path="/webhooks/{id}/test", handler=deliveries.test_webhook,
              scope="admin", summary="Send a test event", body=WebhookTest, reply=DeliveryStarted,
              status=202, errors=(Conflict,)),
    Operation(method="GET", path="/webhooks/{id}/deliveries",
              handler=deliveries.list_webhook_deliveries, scope="admin", summary="List deliveries",
              query=DeliveryQuery, reply=DeliveryPage),
    Operation(method="GET", path="/webhooks/{id}/deliveries/{deliveryId}",
              handler=deliveries.get_webhook_delivery, scope="admin",
              summary="Get a delivery with its attempts", reply=DeliveryDetail),
    Operation(method="POST", path="/webhooks/{id}/deliveries/{deliveryId}/resend",
              handler=deliveries.resend_webhook_delivery, scope="admin",
              summary="Resend a delivery", reply=DeliveryStarted, status=202,
              errors=(Conflict,)),
    Operation(method="POST", path="/webhooks/{id}/replay", handler=replays.start_webhook_replay,
              scope="admin", summary="Replay the deliveries of a time range",
              body=ReplayRequest, reply=Replay, status=202, errors=(Conflict, Unprocessable)),
    Operation(method="GET", path="/webhooks/{id}/replays", handler=replays.list_webhook_replays,
              scope="admin", summary="List replays", reply=ReplayList),
    Operation(method="GET", path="/webhooks/{id}/replays/{replayId}",
              handler=replays.get_webhook_replay, scope="admin",
              summary="Get a replay, and how far it has come", reply=Replay),
    Operation(method="DELETE", path="/webhooks/{id}/replays/{replayId}",
              handler=replays.cancel_webhook_replay, scope="admin", summary="Cancel a replay",
              status=204, errors=(Conflict,)),
]
"""The routes of the API, under both prefixes. /leads/search wins over /leads/{id}."""

SERVICE = [
    Operation(method="GET", path="/health/live", handler=health.report_live, scope=None,
              summary="Is the process alive?", reply=health.Health),
    Operation(method="GET", path="/health/ready", handler=health.report_ready, scope=None,
              summary="Can it serve requests?", reply=health.Health, also={503: health.Health}),
    Operation(method="GET", path="/metrics", handler=health.report_metrics, scope=None,
              summary="Prometheus metrics", media_type="text/plain",
              errors=(Unauthorized, NotFound)),
    Operation(method="GET", path="/openapi.json", handler=documents.send_openapi, scope=None,
              summary="The API's description, OpenAPI 3.1", media_type="application/json"),
]
"""The service's own routes, without a prefix."""

PAGES = [
    Operation(method="GET", path=path, handler=handler, scope=None, summary="A page for people",
              query=AnyQuery)
    for path, handler in (
        ("/", documents.lead_to_docs),
        ("/docs", documents.send_docs),
        ("/docs/", documents.send_docs),
        ("/docs/{page}", documents.send_docs),
        ("/docs/{page}/", documents.send_docs),
        ("/docs/reference", documents.send_docs),
        ("/docs/reference/", documents.send_docs),
        ("/docs/reference/{operation}", documents.send_docs),
        ("/docs/assets/{file}", documents.send_docs),
    )
]
"""The pages of the documentation; the OpenAPI document does not list them."""
# fmt: on


def create_app(settings: Settings, *, ends_on_signals: bool = False) -> ASGIApp:
    """Create the ASGI app. `ends_on_signals`: it is alone in its process and handles SIGTERM."""
    set_up_logging(settings)
    shedder = LoadShedder(settings.shed_after_s)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[dict[str, State]]:
        async with run_state(settings, shedder) as state, shedder.watching():
            if ends_on_signals:
                state.shutdown.catch_signal(state.long_polls.close)
                gc.freeze()  # the present objects stay, so collections need not scan them
                gc.set_threshold(GARBAGE_AFTER, 20, 20)
            yield {"leadlog": state}

    resources = make_resources(API, *PREFIXES) | make_resources([*SERVICE, *PAGES], "")
    router = SegmentRouter(resources, lifespan=lifespan)
    return Middleware(router, settings.public_docs_url, shedder, PREFIXES)


def make_resources(operations: list[Operation], *prefixes: str) -> dict[str, Resource]:
    """Make the resources by path; each resource is available under every prefix."""
    by_path: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_path[operation.path].append(operation)
    resources = {path: Resource(found) for path, found in by_path.items()}
    return {prefix + path: found for prefix in prefixes for path, found in resources.items()}


@asynccontextmanager
async def run_state(settings: Settings, shedder: LoadShedder) -> AsyncIterator[State]:
    """Open the state of the process, without waiting for the database or Redis."""
    redis = Redis.from_url(settings.require_redis_url())
    connector, limit_s = Connector(), settings.shed_after_s
    # Batches have connections of their own, so that a flood of lists and searches cannot delay
    # quick requests. The queue of the other pool refuses requests that would wait too long.
    for_batches = settings.db_pool_size // 2
    async with (
        await create_pool(
            settings, "leadlog-api", for_batches, LOCK_WAIT_S, connector=connector
        ) as batched,
        await create_pool(
            settings,
            "leadlog-api",
            settings.db_pool_size - for_batches,
            LOCK_WAIT_S,
            limit_s,
            connector,
        ) as pool,
        DatabaseWatch(settings, connector).running(),
    ):
        wakeups = Wakeups(redis)
        document = make_document(API, SERVICE, settings.public_docs_url)
        state = State(
            settings=settings,
            pool=pool,
            batched_pool=batched,
            auth=Authenticator(batched, limit_s, settings.default_plan, shedder.known_keys),
            limiter=Limiter(settings.require_redis_url(), settings.api_processes),
            leads=LeadStore(batched, wakeups, limit_s),
            search=LeadSearch(pool, limit_s=2 * limit_s),
            whole_lists=KeyedSemaphore(at_once=1, limit_s=limit_s),
            wakeups=wakeups,
            long_polls=LongPollNotifier(batched, wakeups),
            numbers=HiddenNumbers(batched),
            openapi=msgspec.json.encode(document),
            find_page=DocsSite(document, settings).find,
            shutdown=GracefulShutdown(settings.drain_s),
            deadlines=Deadlines(),
            metrics=MetricsPage(partial(health.measure_lateness, batched)),
        )
        async with _running(state):
            yield state
        await _touch_keys(state.auth, batched)
    await redis.aclose()


@asynccontextmanager
async def _running(state: State) -> AsyncIterator[None]:
    """Run the background tasks of the process while entered."""
    tasks = [
        asyncio.create_task(_touch_keys_forever(state.auth, state.batched_pool)),
        asyncio.create_task(compare_forever(Clock(), state.batched_pool)),
    ]
    async with (
        state.wakeups.running(listening=True),
        state.long_polls.running(),
        state.limiter.running(),
        state.deadlines.running(),
        serving_metrics(state.metrics, state.settings, make_protocol),
    ):
        yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _touch_keys_forever(auth: Authenticator, pool: Pool) -> None:
    """Store when each key was last used: a few seconds late, and for many keys at once."""
    while True:
        await asyncio.sleep(TOUCH_KEYS_EVERY_S)
        await _touch_keys(auth, pool)


async def _touch_keys(auth: Authenticator, pool: Pool) -> None:
    used = auth.take_used()
    if not used:
        return
    ages_s = [time.monotonic() - at for at in used.values()]
    with suppress(*DATABASE_AWAY):  # the next use is stored later
        await pool.execute(sql.api_key_touch_many, list(used), ages_s)
