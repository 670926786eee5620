"""Files every event under its lead, where it stays as long as the lead does."""

import sql
from service.db import Connection
from service.log import Event
from workers.reader import Reader
from workers.summaries import summarise

DELETED = "lead.deleted"
WEBHOOK = "webhook."
"""So begin the types of events that are about no lead."""


class Historian(Reader):
    """Keeps the table `timeline`."""

    pause_s = 0.02

    async def apply(self, conn: Connection, events: list[Event]) -> None:
        """Adds an entry for each event; takes away those of leads that are deleted."""
        events = [event for event in events if not event.type.startswith(WEBHOOK)]
        gone = {_to_key(event) for event in events if event.type == DELETED}
        # A deleted lead has no later event, so what it has in this window goes too.
        filed = [event for event in events if _to_key(event) not in gone]
        if filed:
            await conn.execute(
                sql.timeline_insert_many,
                [event.tenant_id for event in filed],
                [event.live for event in filed],
                [event.lead_id for event in filed],
                [event.version for event in filed],
                [event.event_id for event in filed],
                [event.type for event in filed],
                [event.at for event in filed],
                [summarise(event.type, event.data) for event in filed],
                [event.actor for event in filed],
            )
        if gone:
            tenants, lives, ids = zip(*sorted(gone), strict=True)
            await conn.execute(sql.timeline_delete_many, tenants, lives, ids)


def _to_key(event: Event) -> tuple[int, bool, str]:
    return event.tenant_id, event.live, event.lead_id
