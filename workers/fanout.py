"""Turns events into deliveries: one for each endpoint of the same tenant and mode that wants it.

Exactly once, since deliveries are written in the transaction that moves the reader's cursor.
An endpoint gets the events whose createdAt is not before its own; see fanout_gate_share in
sql/migrations/0020_webhook.sql for why that is exact. Deliveries are made for paused and disabled
endpoints too, and wait.
"""

from collections import defaultdict

import msgspec

import sql
from service.db import Connection
from service.log import Event, encode_envelope
from workers.delivery.tidying import call_heads
from workers.reader import Reader
from workers.slices import Workshop


class Wanting(msgspec.Struct, frozen=True):
    """An endpoint, as far as fan-out cares."""

    id: str
    created_at: str
    coalesces: bool


Wishes = dict[tuple[int, bool, str], list[Wanting]]
"""By tenant, mode and event type: who wants it."""


class Fanout(Reader):
    """Reads some shards of the log."""

    def __init__(self, shop: Workshop, name: str) -> None:
        super().__init__(shop, name)
        self._wrote = False

    async def apply(self, conn: Connection, events: list[Event]) -> None:
        """Writes the deliveries of these events, and the bytes of each event that has any."""
        wishes = await read_wishes(conn, sorted({event.tenant_id for event in events}))
        pairs = [(event, wanting) for event in events for wanting in find_wanting(wishes, event)]
        self._wrote = bool(pairs)
        if not pairs:
            return
        wanted = list({event.id: event for event, _ in pairs}.values())
        places = {event.id: place for place, event in enumerate(wanted, 1)}
        await conn.execute(
            sql.delivery_insert_many,
            [event.tenant_id for event in wanted],
            [event.live for event in wanted],
            [event.event_id for event in wanted],
            [event.type for event in wanted],
            [event.lead_id for event in wanted],
            [event.version for event in wanted],
            [encode_envelope(event) for event in wanted],
            [event.txid for event in wanted],
            [wanting.id for _, wanting in pairs],
            [places[event.id] for event, _ in pairs],
        )
        updates = [
            (event.tenant_id, event.live, wanting.id, event.lead_id, event.version)
            for event, wanting in pairs
            if wanting.coalesces and event.type == "lead.updated"
        ]
        if updates:
            columns = [list(column) for column in zip(*updates, strict=True)]
            await call_heads(conn, await conn.fetch(sql.delivery_supersede_many, *columns))

    async def after_commit(self, _: list[Event]) -> None:
        """Wakes the dispatchers, wherever they run."""
        if self._wrote:
            self.shop.wakeups.notify("delivery")


async def read_wishes(conn: Connection, tenant_ids: list[int]) -> Wishes:
    """What the endpoints of these tenants want, held still until the transaction ends."""
    wishes: Wishes = defaultdict(list)
    for row in await conn.fetch(sql.fanout_begin, tenant_ids):
        for kind in row["events"]:
            wanting = Wanting(row["id"], row["created_at"], row["coalesces"])
            wishes[row["tenant_id"], row["live"], kind].append(wanting)
    return wishes


def find_wanting(wishes: Wishes, event: Event) -> list[Wanting]:
    """Who gets this event. Both times are ISO 8601 with milliseconds: text order is time's."""
    candidates = wishes.get((event.tenant_id, event.live, event.type), ())
    return [wanting for wanting in candidates if wanting.created_at <= event.at]
