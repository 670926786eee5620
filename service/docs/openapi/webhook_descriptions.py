"""What the fields of webhooks, of their deliveries and of events mean, by schema and field."""

from collections.abc import Iterable, Mapping

from service.docs.delivery_errors import ATTEMPT_ERRORS, DELIVERY_ERRORS


def _name_all(codes: Iterable[str]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


DATA_OF_PAGE = {"data": "The entries of the page."}
LIMIT = {"limit": "The most entries that the page could have."}
MOMENT = "an ISO 8601 date (00:00 UTC) or time (UTC without a zone)"
ACTOR = "Who caused the event: the id of an API key, or a part of the service such as `scorer`."
_URL = "Where to send events, by POST: an https URL whose host is not in a private network."
_HOOK = {
    "id": "The id, `wh_…`.",
    "url": "Where events are sent, by POST.",
    "events": "The types and wildcards of the events that are sent.",
    "status": "`active`: events are sent. `paused` by you, or `disabled` by the service or the "
    "receiver: events are held.",
    "createdAt": "When the webhook was created; it gets events from then on.",
}
_HOOK_OPTIONS = {
    "description": "A note of your own.",
    "payload": "`full`: events with their whole data. `thin`: with the id of the object only, see "
    "ThinEvent.",
    "retry": "How long a failed delivery is tried again: `fast` 15 minutes, `standard` 3 days, "
    "`long` 8 days.",
    "coalesce": "Whether of several waiting updates of a lead only the newest is sent.",
    "rateLimit": "The most requests per second; null: no limit.",
    "timeoutMs": "How long a request may take, in milliseconds; null: 15,000.",
}
_ENDPOINT = {
    **_HOOK,
    **_HOOK_OPTIONS,
    "statusReason": "Why the webhook is disabled; null if it is not.",
    "headerNames": "The names of the headers that each request has; their values are secret.",
    "updatedAt": "When the webhook was last changed.",
    "failures": "The number of failed attempts since the last success.",
    "failingSince": "The first failed attempt since the last success; null if there is none.",
    "lastSuccessAt": "The last success; null if there is none.",
    "pausedUntil": "Nothing is sent before this time, because too many attempts failed or the "
    "receiver sent Retry-After; null: no pause. `status` `paused`, then `active` ends the pause.",
}
_EVENTS = (
    "The events to send: types, `lead.*` for all types of a noun, or `*` for all. A wildcard "
    "includes types of later versions, but no events about the webhook itself"
)
_HEADERS = (
    "Headers that each request has, by name. Those that Leadlog sets, such as `webhook-id`, are "
    "refused."
)
_DELIVERY = {
    "id": "The id, `dlv_…`.",
    "eventId": "The id of the event, which the request has as `webhook-id`.",
    "type": "The type of the event.",
    "leadId": "The lead of the event; null if the event is of another object.",
    "cause": "Why there is this delivery: the `event` itself, a `replay`, a `resend` or a `test`.",
    "state": "`pending`: to be sent, perhaps again, or being sent. `held`: waits until the webhook "
    "is active. "
    "`delivered` and `failed` are final, as are `superseded` by a newer update and `cancelled`.",
    "attempts": "How many requests were made.",
    "lastStatus": "The HTTP status of the last response; null if there was none.",
    "lastError": f"A code for the error of the last attempt, or for the reason of giving up: "
    f"{_name_all(DELIVERY_ERRORS)}; null if there was none.",
    "nextAttemptAt": "When the next request is due; null if none will follow.",
    "createdAt": "When the delivery was created.",
    "finishedAt": "When the delivery ended; null if it has not.",
}
_DATA = {
    "version": "The version of the object after the event; versions of an object have no gaps.",
    "actor": ACTOR,
    "test": "true in a test event; absent in all others.",
}
_LEAD_DATA = {
    "lead": "The lead, as `GET /v1/leads` shows it: without `assignedTo` and the summary of its "
    "conversations.",
    **_DATA,
}
_WEBHOOK_DATA = {"webhook": "The webhook and its health.", **_DATA}
_EXPIRED = {"expired": "The deliveries that have expired."}
_ENVELOPE = {
    "type": "The type of the event.",
    "id": "The id, `evt_…`. An event that is sent again has the same id.",
    "apiVersion": "The version of this format.",
    "createdAt": "When the event happened.",
    "data": "What the event is about.",
}

WEBHOOKS: Mapping[str, Mapping[str, str]] = {
    "Endpoint": _ENDPOINT,
    "EndpointList": {"data": "The webhooks, the oldest first."},
    "NewEndpoint": {
        "url": _URL,
        "events": f"{_EVENTS}.",
        **_HOOK_OPTIONS,
        "status": "`active`: events are sent. `paused`: they are held until you make it active.",
        "headers": _HEADERS,
        "secret": "The secret that signs requests: `whsec_` and 24 to 64 bytes in base64. Null or "
        "absent: one is made.",
    },
    "CreatedEndpoint": _ENDPOINT
    | {"secret": "The secret that was made; absent if the request had one. Shown only here."},
    "EndpointPatch": {
        "url": _URL,
        "events": f"{_EVENTS}. The list replaces the one before.",
        "status": "`paused`: hold events. `active`: send them, and those held as `resume` says.",
        "resume": "Which held events to send when the webhook becomes active: all (`replay`), none "
        f"(`skip`), or those from {MOMENT} in the past on. Only with `status` `active`, on "
        "a webhook that is paused or disabled. Default: `replay`.",
        **_HOOK_OPTIONS,
        "headers": f"{_HEADERS} The object replaces the one before; null removes all.",
    },
    "RotatedSecret": {
        "secret": "The new secret. Only this response shows it.",
        "previousExpiresAt": "Until then the previous secret signs too, which nothing ends sooner; "
        "your server may stop accepting it at once.",
    },
    "Delivery": _DELIVERY,
    "DeliveryDetail": _DELIVERY | {"attemptLog": "The newest 100 attempts, oldest first."},
    "DeliveryPage": DATA_OF_PAGE | {"pagination": "The position of the page."},
    "DeliveryPagination": LIMIT
    | {
        "hasMore": "Whether there is a next page.",
        "nextCursor": "The `cursor` of the next page; null on the last page.",
    },
    "DeliveryAttempt": {
        "number": "The number of the attempt, from 1; the request has it as `webhook-attempt`.",
        "at": "When the request was made; `webhook-timestamp` has it in Unix seconds.",
        "status": "The HTTP status of the response; null if there was none.",
        "error": f"A code for the error: {_name_all(ATTEMPT_ERRORS)}; null after a success.",
        "dnsMs": "The time that looking up the host took; null if a connection was reused.",
        "connectMs": "The time that connecting took, with TLS; null if a connection was reused.",
        "waitMs": "The time until the head of the response; null if there was none.",
        "totalMs": "The time that the whole attempt took.",
        "response": "The first 16 KiB of the body of the response; null if there was no response.",
        "truncated": "Whether `response` is not the whole body.",
    },
    "WebhookTest": {
        "type": "The type of the test event, subscribed or not. Default: the first that the "
        "webhook wants."
    },
    "DeliveryStarted": {"deliveryId": "The id of the delivery, `dlv_…`."},
    "Replay": {
        "id": "The id, `rpl_…`.",
        "state": "Whether it is `running`, or has ended by itself or by you.",
        "since": "The replay is of deliveries created from this time on.",
        "until": "The replay is of deliveries created before this time.",
        "onlyUndelivered": "Whether deliveries that succeeded are left out.",
        "seen": "The number of finished deliveries read so far, of any cause.",
        "sent": "The number of deliveries created for them. Tests, resends, earlier replays and "
        "superseded deliveries are left out; failed and cancelled ones are sent.",
        "expired": "The number of deliveries whose events are no longer kept.",
        "reachedAt": "All deliveries created before this time have been read.",
        "createdAt": "When the replay was started.",
        "finishedAt": "When the replay ended; null if it has not.",
    },
    "ReplayList": {"data": "The newest hundred replays, newest first."},
    "ReplayRequest": {
        "since": f"Send deliveries that were created from this time on: {MOMENT} in the past.",
        "until": f"Send deliveries that were created before this time: {MOMENT}. Null or absent: "
        "now.",
        "onlyUndelivered": "Whether to leave out deliveries that succeeded.",
    },
    **dict.fromkeys(
        (
            "LeadCreated",
            "LeadUpdated",
            "LeadQualified",
            "LeadConverted",
            "LeadDeleted",
            "ConversationStarted",
            "ConversationCompleted",
            "ConversationHandoff",
            "MessageReceived",
            "MessageSent",
            "IntentHighValue",
            "WebhookFailing",
            "WebhookDisabled",
            "WebhookExpired",
            "ThinEvent",
        ),
        _ENVELOPE,
    ),
    "LeadData": _LEAD_DATA,
    "LeadChangeData": _LEAD_DATA
    | {
        "changes": "The fields that have changed, by name; `assignedTo` too. In `lead.qualified` "
        "and `lead.converted` all fields of the change, as in the `lead.updated` before it."
    },
    "FieldChange": {"from": "The value before.", "to": "The value after."},
    "ConversationData": {"conversation": "The conversation.", **_DATA},
    "Conversation": {
        "id": "The id, `conv_…`.",
        "leadId": "The lead; null if it is not known yet.",
        "visitorId": "The visitor; null if it is not known.",
        "channel": "How the conversation is held.",
        "status": "Whether the conversation goes on, or how it ended.",
        "subject": "The subject; null if there is none.",
        "messageCount": "The number of messages.",
        "summary": "A summary; null if there is none.",
        "intents": "The intents that it showed.",
        "leadScore": "The score of the lead.",
        "assignedTo": "Who takes care of it; null: nobody.",
        "startedAt": "When it began.",
        "lastMessageAt": "When the last message was written.",
    },
    "WebhookData": _WEBHOOK_DATA,
    "WebhookExpiredData": _WEBHOOK_DATA | _EXPIRED,
    "WebhookState": {
        "id": "The id of the webhook, `wh_…`.",
        "description": "Your note about the webhook; null if there is none.",
        "status": _HOOK["status"],
        "statusReason": "Why the webhook is disabled; null if it is not.",
        "failures": "The number of failed attempts since the last success.",
        "failingSince": "The first failed attempt since the last success; null if there is none.",
        "lastSuccessAt": "The last success; null if there is none.",
        "disablesAt": "When the webhook will be disabled unless a delivery succeeds; null if that "
        "is not to be expected.",
    },
    "ExpiredDeliveries": {
        "count": "Their number.",
        "since": "The time of the oldest of their events.",
        "until": "The time of the newest of their events.",
    },
    "ThinData": {
        "leadId": "The id of the lead, in an event about a lead.",
        "conversationId": "The id of the conversation, in an event about a conversation.",
        "webhookId": "The id of the webhook, in an event about a webhook.",
        **_EXPIRED,
        **_DATA,
    },
}
