"""The code of a lead's status and source, as lead_status_source() in the database makes it."""

from typing import get_args

from service.leads.models import Source, Status

STATUSES = get_args(Status)
SOURCES = get_args(Source)
"""Both in the order of lead_status_source(); a test compares the codes."""


def list_status_source_codes(
    status: str | None, source: str | None = None
) -> tuple[int, ...] | None:
    """The codes of all leads with this status and this source; None: no filter."""
    if status is None and source is None:
        return None
    return tuple(
        len(SOURCES) * n + m
        for n, each_status in enumerate(STATUSES)
        for m, each_source in enumerate(SOURCES)
        if status in (None, each_status) and source in (None, each_source)
    )
