"""Status and source of a lead as one small number, as lead_kind() in the database makes it."""

from typing import get_args

from service.models import Source, Status

STATUSES = get_args(Status)
SOURCES = get_args(Source)
"""Both in the order of lead_kind(); a test holds them together."""


def list_kinds(status: str | None, source: str | None = None) -> tuple[int, ...] | None:
    """The kinds of leads asked for; None: all."""
    if status is None and source is None:
        return None
    return tuple(
        len(SOURCES) * n + m
        for n, each_status in enumerate(STATUSES)
        for m, each_source in enumerate(SOURCES)
        if status in (None, each_status) and source in (None, each_source)
    )
