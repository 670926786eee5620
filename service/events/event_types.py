"""The types of events, each named `noun.past`, and the patterns that choose among them."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, get_args

EventType = Literal[
    "lead.created",
    "lead.updated",
    "lead.qualified",
    "lead.converted",
    "lead.deleted",
    "conversation.started",
    "conversation.completed",
    "conversation.handoff",
    "message.received",
    "message.sent",
    "intent.high_value",
    "webhook.failing",
    "webhook.disabled",
    "webhook.expired",
]
EventPattern = Literal[
    EventType, "*", "lead.*", "conversation.*", "message.*", "intent.*", "webhook.*"
]
"""A type, all types of a noun, or all types; also those that later versions add."""

TYPES: tuple[EventType, ...] = get_args(EventType)
PATTERNS: tuple[EventPattern, ...] = get_args(EventPattern)


@lru_cache(maxsize=256)
def list_patterns(event_type: str) -> tuple[str, str, str]:
    """The patterns that include a type: the type itself, and two wildcards."""
    return event_type, f"{event_type.partition('.')[0]}.*", "*"


def expand_patterns(patterns: Iterable[str]) -> list[EventType]:
    """The types that any of the patterns includes, in the order of the catalogue."""
    wanted = set(patterns)
    return [each for each in TYPES if not wanted.isdisjoint(list_patterns(each))]
