"""Writes the timeline of each lead, which lasts as long as the lead."""

import sql
from service.events.event_log import Event
from service.leads.timeline_text import describe_event
from workers.reader import Move, Reader, check_moved

DELETED = "lead.deleted"
WEBHOOK_PREFIX = "webhook."
"""Event types with this prefix concern no lead."""


class TimelineWriter(Reader):
    """Writes the table `timeline`."""

    name = "timeline_writer"
    pause_s = 0.05

    async def apply(self, events: list[Event], move: Move) -> bool:
        """Adds an entry for each event; removes the entries of deleted leads."""
        events = [event for event in events if not event.type.startswith(WEBHOOK_PREFIX)]
        if not events:
            return False
        deleted = sorted({_to_key(event) for event in events if event.type == DELETED})
        gone = set(deleted)
        # A deleted lead has no later event, so its other events of this batch need no entry.
        added = [event for event in events if _to_key(event) not in gone]
        moved = await self.context.pool.fetchval(
            sql.timeline_write_many,
            *move.arguments,
            [event.tenant_id for event in added],
            [event.live for event in added],
            [event.lead_id for event in added],
            [event.version for event in added],
            [event.event_id for event in added],
            [event.type for event in added],
            [event.at for event in added],
            [describe_event(event.type, event.data) for event in added],
            [event.actor for event in added],
            *zip(*deleted, strict=True) if deleted else ([], [], []),
        )
        check_moved(moved)
        return True


def _to_key(event: Event) -> tuple[int, bool, str]:
    return event.tenant_id, event.live, event.lead_id
