"""The types of events, each named `noun.past`."""

from typing import Literal

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
