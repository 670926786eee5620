"""Turns events into deliveries: one for each subscribed endpoint of the same tenant and mode.

An endpoint subscribes to types of events or, by wildcards, to all types of a noun or all types. A
wildcard leaves out the events about the endpoint itself: a message that an endpoint fails does not
arrive there, and would expire, which is an event again.

Each delivery is created exactly once, because deliveries are written in the transaction that moves
the reader's cursor. An endpoint receives the events that were written since its creation;
fanout_gate_close in sql/migrations/0005_webhook.sql explains why that is exact. Paused and
disabled endpoints get deliveries too, which wait.
"""

from collections import defaultdict
from itertools import chain

import msgspec

import sql
from service.database.connect import Connection
from service.events.event_log import Event, encode_envelope
from service.events.event_types import list_patterns
from workers.delivery.maintenance import make_next_due
from workers.jobs import WorkerContext
from workers.reader import Move, Reader, check_moved


class Subscriber(msgspec.Struct, frozen=True):
    """The fields of an endpoint that the fan-out needs."""

    endpoint_id: str
    created_at: str
    near_until: str
    created_after: int
    coalesces: bool


Subscriptions = dict[tuple[int, bool, str], list[Subscriber]]
"""Endpoints by tenant, mode and event pattern."""


class Fanout(Reader):
    """Writes the deliveries of events."""

    name = "fanout"

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(context)
        self._expects_endpoints = True
        """Whether the last batch found endpoints. If not, the next one checks first, because the
        check is one statement, and a transaction is four. Without a transaction the check is exact:
        an endpoint that is created later gets no event that was cut before."""

    async def apply(self, events: list[Event], move: Move) -> bool:
        """Writes the deliveries of these events, and the body of each event that has any."""
        pool, tenant_ids = self.context.pool, sorted({event.tenant_id for event in events})
        if not self._expects_endpoints and not await pool.fetch(sql.fanout_begin, tenant_ids):
            return False
        async with pool.acquire() as conn, conn.transaction():
            subscriptions = await read_subscriptions(conn, tenant_ids)
            deliveries = [
                (event, subscriber)
                for event in events
                for subscriber in find_subscribers(subscriptions, event)
            ]
            if deliveries:
                await insert_deliveries(conn, deliveries)
                await supersede_updates(conn, deliveries)
            check_moved(await conn.fetchval(sql.reader_advance_if_at, *move.arguments))
        self._expects_endpoints = bool(subscriptions)
        if deliveries:
            self.context.wakeups.notify("delivery")
        return True


async def read_subscriptions(conn: Connection, tenant_ids: list[int]) -> Subscriptions:
    """The subscriptions of these tenants, locked until the transaction ends."""
    subscriptions: Subscriptions = defaultdict(list)
    for row in await conn.fetch(sql.fanout_begin, tenant_ids):
        subscriber = Subscriber(
            endpoint_id=row["id"],
            created_at=row["created_at"],
            near_until=row["near_until"],
            created_after=row["created_after"],
            coalesces=row["coalesces"],
        )
        for pattern in row["events"]:
            subscriptions[row["tenant_id"], row["live"], pattern].append(subscriber)
    return subscriptions


def find_subscribers(subscriptions: Subscriptions, event: Event) -> list[Subscriber]:
    """The endpoints that receive this event, each once; see event_is_wanted in 0005_webhook.sql."""
    found, *by_wildcard = (
        subscriptions.get((event.tenant_id, event.live, pattern), [])
        for pattern in list_patterns(event.type)
    )
    if any(by_wildcard):
        merged = {each.endpoint_id: each for each in chain(*by_wildcard)}
        merged.pop(event.lead_id, None)
        found = list((merged | {each.endpoint_id: each for each in found}).values())
    return [each for each in found if is_since_creation(each, event)]


def is_since_creation(subscriber: Subscriber, event: Event) -> bool:
    """Whether the event was written since the endpoint was created.

    This is event_is_since in sql/migrations/0005_webhook.sql, which explains the rule. All times
    are ISO 8601 with milliseconds, so they compare as text.
    """
    is_near = subscriber.created_at <= event.at <= subscriber.near_until
    return event.id > subscriber.created_after or is_near


async def insert_deliveries(conn: Connection, deliveries: list[tuple[Event, Subscriber]]) -> None:
    """Writes deliveries in log order, and each of their events once."""
    events = list({event.id: event for event, _ in deliveries}.values())
    positions = {event.id: position for position, event in enumerate(events, 1)}
    await conn.execute(
        sql.delivery_insert_many,
        [event.tenant_id for event in events],
        [event.live for event in events],
        [event.event_id for event in events],
        [event.type for event in events],
        [event.lead_id for event in events],
        [event.version for event in events],
        [encode_envelope(event) for event in events],
        [event.txid for event in events],
        [subscriber.endpoint_id for _, subscriber in deliveries],
        [positions[event.id] for event, _ in deliveries],
    )


async def supersede_updates(conn: Connection, deliveries: list[tuple[Event, Subscriber]]) -> None:
    """Finishes older lead.updated deliveries of endpoints that want the newest state only."""
    updates = [
        (event.tenant_id, event.live, subscriber.endpoint_id, event.lead_id, event.version)
        for event, subscriber in deliveries
        if subscriber.coalesces and event.type == "lead.updated"
    ]
    if updates:
        columns = [list(column) for column in zip(*updates, strict=True)]
        await make_next_due(conn, await conn.fetch(sql.delivery_supersede_many, *columns))
