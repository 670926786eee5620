"""A webhook, its deliveries and a replay."""

from collections.abc import Mapping
from typing import Any

from service.docs.openapi.examples.call import (
    DELIVERY_ID,
    LEAD_ID,
    REPLAY_ID,
    WEBHOOK_ID,
    Call,
)

_CREATED_AT, _CHANGED_AT = "2026-09-02T10:30:00.000Z", "2026-09-02T10:34:27.316Z"
_NEW = {
    "url": "https://crm.nordvik.example.com/hooks/leads",
    "events": ["lead.created", "lead.qualified"],
}
_PATCH = {"description": "CRM of the Oslo office", "rateLimit": 20, "retry": "long"}
_CREATED: dict[str, Any] = {
    "id": WEBHOOK_ID,
    **_NEW,
    "status": "active",
    "createdAt": _CREATED_AT,
    "statusReason": None,
    "description": None,
    "payload": "full",
    "retry": "standard",
    "coalesce": False,
    "rateLimit": None,
    "timeoutMs": None,
    "headerNames": [],
    "updatedAt": _CREATED_AT,
    "failures": 0,
    "failingSince": None,
    "lastSuccessAt": None,
    "pausedUntil": None,
}
_CHANGED = _CREATED | _PATCH | {"updatedAt": _CHANGED_AT}
_REPLAY: dict[str, Any] = {
    "id": REPLAY_ID,
    "state": "running",
    "since": "2026-09-03T00:00:00.000Z",
    "until": "2026-10-14T14:00:00.000Z",
    "onlyUndelivered": True,
    "seen": 0,
    "sent": 0,
    "expired": 0,
    "reachedAt": "2026-09-03T00:00:00.000Z",
    "createdAt": "2026-10-14T14:00:00.000Z",
    "finishedAt": None,
}
_QUALIFIED: dict[str, Any] = {
    "id": DELIVERY_ID,
    "eventId": "evt_01K8Z7QH3S6V8X0A2C4E6G8J0M",
    "type": "lead.qualified",
    "leadId": LEAD_ID,
    "cause": "event",
    "state": "delivered",
    "attempts": 1,
    "lastStatus": 204,
    "lastError": None,
    "nextAttemptAt": None,
    "createdAt": "2026-10-14T13:05:48.951Z",
    "finishedAt": "2026-10-14T13:05:49.020Z",
}
_DELIVERED = _QUALIFIED | {
    "id": "dlv_92e0b7465fd3c81a0b9e7d24c6a5f138",
    "eventId": "evt_01K8Z7M2T5W7Y9B1D3F5H7K9N1",
    "type": "lead.created",
    "createdAt": "2026-09-03T07:20:11.431Z",
    "finishedAt": "2026-09-03T07:20:11.512Z",
}
_ATTEMPT: dict[str, Any] = {
    "number": 1,
    "at": "2026-10-14T13:05:48.960Z",
    "status": 204,
    "error": None,
    "dnsMs": 4.1,
    "connectMs": 21.7,
    "waitMs": 33.0,
    "totalMs": 59.2,
    "response": "",
    "truncated": False,
}
_HOOK = {"id": WEBHOOK_ID}
_DELIVERY = _HOOK | {"deliveryId": DELIVERY_ID}
_ONE_REPLAY = _HOOK | {"replayId": REPLAY_ID}

CALLS: Mapping[str, Call] = {
    "create_webhook": Call(body=_NEW, reply=_CREATED | {"secret": "whsec_…"}),
    "update_webhook": Call(ids=_HOOK, body=_PATCH, reply=_CHANGED),
    "get_webhook": Call(ids=_HOOK, reply=_CHANGED),
    "list_webhooks": Call(reply={"data": [_CHANGED]}),
    "rotate_webhook_secret": Call(
        ids=_HOOK,
        reply={"secret": "whsec_…", "previousExpiresAt": "2026-10-15T14:00:00.000Z"},
    ),
    "test_webhook": Call(
        ids=_HOOK,
        body={"type": "lead.qualified"},
        reply={"deliveryId": "dlv_4be1d0c3a7f95e8260b3d4f1c9a87e25"},
    ),
    "list_webhook_deliveries": Call(
        ids=_HOOK,
        reply={
            "data": [_QUALIFIED, _DELIVERED],
            "pagination": {"limit": 25, "hasMore": False, "nextCursor": None},
        },
    ),
    "get_webhook_delivery": Call(ids=_DELIVERY, reply=_QUALIFIED | {"attemptLog": [_ATTEMPT]}),
    "resend_webhook_delivery": Call(
        ids=_DELIVERY, reply={"deliveryId": "dlv_c07f2e96b15da843e0d97b6c315f8a42"}
    ),
    "start_webhook_replay": Call(
        ids=_HOOK,
        body={"since": "2026-09-03T00:00:00Z", "onlyUndelivered": True},
        reply=_REPLAY,
    ),
    "list_webhook_replays": Call(ids=_HOOK, reply={"data": [_REPLAY]}),
    "get_webhook_replay": Call(ids=_ONE_REPLAY, reply=_REPLAY),
    "cancel_webhook_replay": Call(ids=_ONE_REPLAY),
    "delete_webhook": Call(ids=_HOOK),
}
