"""Events as webhooks, CRM streams and the feed deliver them: a struct for each type.

PostgreSQL builds the `data` of events about leads and webhooks. These structs describe it, and
`type` tells them apart; a test compares them with the types in `event_types.py`.
"""

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from service.events.event_types import EventType
from service.events.feed import EventPagination
from service.leads.models import Lead
from service.validation.field_types import ApiStruct, Moment
from service.webhooks.endpoints import Status

ApiVersion = Literal["2026-01-15"]


class FieldChange(msgspec.Struct):
    """The values of a field before and after a change."""

    old: Any = msgspec.field(name="from")
    new: Any = msgspec.field(name="to")


class LeadData(ApiStruct):
    """The lead after the event; of a deleted lead, its last state."""

    lead: Lead
    version: int
    actor: str
    test: bool | UnsetType = UNSET


class LeadChangeData(ApiStruct):
    """The lead after the change, and what has changed."""

    lead: Lead
    version: int
    changes: dict[str, FieldChange]
    actor: str
    test: bool | UnsetType = UNSET


class Conversation(ApiStruct):
    """A conversation of a lead with an agent."""

    id: str
    lead_id: str | None
    visitor_id: str | None
    channel: Literal["web_chat", "api", "whatsapp", "slack"]
    status: Literal["active", "closed", "handed_off", "expired"]
    subject: str | None
    message_count: int
    summary: str | None
    intents: list[str]
    lead_score: int
    assigned_to: str | None
    started_at: Moment
    last_message_at: Moment


class ConversationData(ApiStruct):
    """The conversation after the event."""

    conversation: Conversation
    version: int
    actor: str
    test: bool | UnsetType = UNSET


class WebhookState(ApiStruct):
    """The health of a webhook, without its URL: every key may read events."""

    id: str
    description: str | None
    status: Status
    status_reason: str | None
    failures: int
    failing_since: Moment | None
    last_success_at: Moment | None
    disables_at: Moment | None


class WebhookData(ApiStruct):
    """The webhook after the event."""

    webhook: WebhookState
    version: int
    actor: str
    test: bool | UnsetType = UNSET


class ExpiredDeliveries(ApiStruct):
    """Deliveries whose events were removed before they could be sent."""

    count: int
    since: Moment
    until: Moment


class WebhookExpiredData(ApiStruct):
    """The webhook, and the deliveries that it has lost."""

    webhook: WebhookState
    expired: ExpiredDeliveries
    version: int
    actor: str
    test: bool | UnsetType = UNSET


class Envelope(ApiStruct, tag_field="type"):
    """What all events have, beside `type` and `data`."""

    id: str
    api_version: ApiVersion
    created_at: Moment


class LeadCreated(Envelope, tag="lead.created"):
    """A lead was created."""

    data: LeadData


class LeadUpdated(Envelope, tag="lead.updated"):
    """At least one field of a lead was changed, by a client or by the scorer."""

    data: LeadChangeData


class LeadQualified(Envelope, tag="lead.qualified"):
    """The status of a lead became `qualified`; there is a `lead.updated` beside it."""

    data: LeadChangeData


class LeadConverted(Envelope, tag="lead.converted"):
    """The status of a lead became `converted`; there is a `lead.updated` beside it."""

    data: LeadChangeData


class LeadDeleted(Envelope, tag="lead.deleted"):
    """A lead was deleted."""

    data: LeadData


class ConversationStarted(Envelope, tag="conversation.started"):
    """A conversation began."""

    data: ConversationData


class ConversationCompleted(Envelope, tag="conversation.completed"):
    """A conversation was closed, or expired."""

    data: ConversationData


class ConversationHandoff(Envelope, tag="conversation.handoff"):
    """A conversation was handed off to a person."""

    data: ConversationData


class MessageReceived(Envelope, tag="message.received"):
    """A visitor wrote a message."""

    data: ConversationData


class MessageSent(Envelope, tag="message.sent"):
    """An agent or a person wrote a message."""

    data: ConversationData


class IntentHighValue(Envelope, tag="intent.high_value"):
    """A conversation showed an intent of high value."""

    data: ConversationData


class WebhookFailing(Envelope, tag="webhook.failing"):
    """Deliveries of a webhook have failed for so long that it will be disabled at `disablesAt`."""

    data: WebhookData


class WebhookDisabled(Envelope, tag="webhook.disabled"):
    """A webhook was disabled; its deliveries are held until it is active again."""

    data: WebhookData


class WebhookExpired(Envelope, tag="webhook.expired"):
    """Deliveries of a webhook expired: they can no longer be sent."""

    data: WebhookExpiredData


Event: TypeAlias = (
    LeadCreated
    | LeadUpdated
    | LeadQualified
    | LeadConverted
    | LeadDeleted
    | ConversationStarted
    | ConversationCompleted
    | ConversationHandoff
    | MessageReceived
    | MessageSent
    | IntentHighValue
    | WebhookFailing
    | WebhookDisabled
    | WebhookExpired
)


class ThinData(ApiStruct, kw_only=True):
    """The id of the object concerned, without personal data. One of the three ids is present."""

    lead_id: str | UnsetType = UNSET
    conversation_id: str | UnsetType = UNSET
    webhook_id: str | UnsetType = UNSET
    expired: ExpiredDeliveries | UnsetType = UNSET
    version: int
    actor: str
    test: bool | UnsetType = UNSET


class ThinEvent(ApiStruct):
    """An event of any type as a webhook gets it whose `payload` is `thin`."""

    id: str
    type: EventType
    api_version: ApiVersion
    created_at: Moment
    data: ThinData


class EventPage(ApiStruct):
    """A page of the log, in the order in which the events became visible."""

    data: list[Event]
    pagination: EventPagination
