"""One example of each body, for the API's description; a test proves that each is valid."""

from typing import Any

from service.access.api_keys import KeyList, KeyRequest, KeyRotation, NewKey
from service.events.feed import EventPage
from service.handlers.health import Health
from service.leads.models import Lead, LeadDetail, LeadPage, LeadPatch, NewLead
from service.leads.scores import LeadScore
from service.leads.search.query import SearchPage
from service.webhooks.deliveries import DeliveryDetail, DeliveryPage, DeliveryStarted, WebhookTest
from service.webhooks.endpoint_update import EndpointPatch, RotatedSecret
from service.webhooks.endpoints import CreatedEndpoint, Endpoint, EndpointList, NewEndpoint
from service.webhooks.replays import Replay, ReplayList, ReplayRequest

_LEAD = {
    "id": "lead_01K8Z7M2T4V6X8A0C2E4G6J8M0",
    "email": "ines.duarte@nordvik.example.com",
    "name": "Inês Duarte",
    "company": "Nordvik Logistics",
    "title": "Head of Operations",
    "phone": "+47 22 12 34 56",
    "status": "contacted",
    "score": 62,
    "source": "form",
    "tags": ["nordics", "pilot"],
    "customFields": {"fleetSize": 140, "budget": "40k EUR", "integrations": ["ERP", "TMS"]},
}
_LEAD_CONTACT = {"conversationCount": 2, "lastIntent": "pricing", "assignedTo": "user_marta"}
_TIMES = {
    "firstSeenAt": "2026-09-03T07:20:11.402Z",
    "lastActiveAt": "2026-10-14T13:05:48.917Z",
    "createdAt": "2026-09-03T07:20:11.402Z",
    "updatedAt": "2026-10-14T13:05:48.917Z",
}
_KEY = {
    "id": "key_01K8Z7N5B7D9F1H3K5M7P9R1T3",
    "name": "website form",
    "scope": "write",
    "mode": "live",
}
_KEY_USE = {
    "last4": "x7Qm",
    "createdAt": "2026-09-01T08:00:00.000Z",
    "expiresAt": None,
    "lastUsedAt": "2026-10-14T13:05:48.000Z",
}
_HOOK = {
    "id": "wh_01K8Z7P1C3E5G7J9M1P3R5T7V9",
    "url": "https://crm.nordvik.example.com/hooks/leads",
    "events": ["lead.created"],
    "status": "active",
    "createdAt": "2026-09-02T10:30:00.000Z",
}
_HOOK_STATE: dict[str, Any] = {
    "statusReason": None,
    "description": None,
    "payload": "full",
    "retry": "standard",
    "coalesce": False,
    "rateLimit": None,
    "timeoutMs": None,
    "headerNames": [],
    "updatedAt": "2026-09-02T10:30:00.000Z",
    "failures": 0,
    "failingSince": None,
    "lastSuccessAt": "2026-10-14T13:05:49.020Z",
    "pausedUntil": None,
}
_HOOK_NEW = _HOOK_STATE | {"lastSuccessAt": None}

_REPLAY: dict[str, Any] = {
    "id": "rpl_01K8Z7R2F4H6K8M0P2R4T6V8X0",
    "state": "running",
    "since": "2026-10-13T00:00:00.000Z",
    "until": "2026-10-14T14:00:00.000Z",
    "onlyUndelivered": True,
    "seen": 120,
    "sent": 4,
    "expired": 0,
    "reachedAt": "2026-10-13T17:31:08.114Z",
    "createdAt": "2026-10-14T14:00:00.000Z",
    "finishedAt": None,
}
_DELIVERY: dict[str, Any] = {
    "id": "dlv_4be1d0c3a7f95e8260b3d4f1c9a87e25",
    "eventId": "evt_01K8Z7QH3R5T7V9X1Z3B5D7F9H",
    "type": "lead.updated",
    "leadId": "lead_01K8Z7M2T4V6X8A0C2E4G6J8M0",
    "cause": "event",
    "state": "delivered",
    "attempts": 1,
    "lastStatus": 204,
    "lastError": None,
    "nextAttemptAt": None,
    "createdAt": "2026-10-14T13:05:48.951Z",
    "finishedAt": "2026-10-14T13:05:49.020Z",
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


def _make_factor(feature: str, value: str, contribution: int, note: str) -> dict[str, Any]:
    return {"feature": feature, "value": value, "contribution": contribution, "note": note}


_EVENT = {
    "id": "evt_01K8Z7QH3R5T7V9X1Z3B5D7F9H",
    "type": "lead.updated",
    "apiVersion": "2026-01-15",
    "createdAt": "2026-10-14T13:05:48.917Z",
    "data": {
        "lead": _LEAD | _TIMES,
        "version": 4,
        "changes": {"status": {"from": "new", "to": "contacted"}},
        "actor": "key_01K8Z7N5B7D9F1H3K5M7P9R1T3",
    },
}

_PAGINATION = {"page": 1, "limit": 25, "total": 1, "totalPages": 1, "hasMore": False}

EXAMPLES: dict[Any, Any] = {
    LeadPage: {"data": [_LEAD | _TIMES], "pagination": _PAGINATION},
    SearchPage: {
        "data": [
            {
                "id": "lead_01K8Z7QH3R5T7V9X1Z3B5D7F9H",
                "email": "ines.duarte@nordvik.example.com",
                "name": "Inês Duarte",
                "company": "Nordvik Logistics",
                "status": "contacted",
                "score": 41,
                "matchField": "company",
                "lastActiveAt": "2026-10-14T13:05:48.917Z",
            }
        ],
        "pagination": _PAGINATION,
    },
    EventPage: {
        "data": [_EVENT],
        "pagination": {"limit": 100, "hasMore": False, "nextCursor": "MS40MTc3Mi4w"},
    },
    NewLead: {
        "email": "ines.duarte@nordvik.example.com",
        "name": "Inês Duarte",
        "company": "Nordvik Logistics",
        "source": "form",
        "tags": ["nordics"],
        "customFields": {"fleetSize": 140},
    },
    LeadPatch: {
        "status": "contacted",
        "title": "Head of Operations",
        "tags": ["nordics", "pilot"],
        "customFields": {"budget": "40k EUR", "fleetSize": None},
    },
    Lead: _LEAD | _TIMES,
    LeadDetail: _LEAD
    | _LEAD_CONTACT
    | _TIMES
    | {
        "conversationSummary": "Wants a pilot with ten lorries before the winter season.",
        "timeline": [
            {
                "id": "evt_01K8Z7QH3R5T7V9X1Z3B5D7F9H",
                "type": "lead.updated",
                "at": "2026-10-14T13:05:48.917Z",
                "summary": "status: new → contacted",
                "actor": "key_01K8Z7N5B7D9F1H3K5M7P9R1T3",
            }
        ],
    },
    KeyRequest: {"name": "website form", "scope": "write"},
    KeyRotation: {"graceSeconds": 3600},
    NewKey: _KEY | {"key": "sk_live_…x7Qm"} | _KEY_USE | {"lastUsedAt": None},
    KeyList: {"data": [_KEY | _KEY_USE]},
    NewEndpoint: {"url": "https://crm.nordvik.example.com/hooks/leads", "events": ["lead.created"]},
    WebhookTest: {"type": "lead.qualified"},
    CreatedEndpoint: _HOOK | _HOOK_NEW | {"secret": "whsec_…"},
    Endpoint: _HOOK | _HOOK_STATE,
    EndpointPatch: {"status": "active", "resume": "replay", "rateLimit": 20},
    RotatedSecret: {"secret": "whsec_…", "previousExpiresAt": "2026-10-15T14:00:00.000Z"},
    ReplayRequest: {"since": "2026-10-13", "onlyUndelivered": True},
    Replay: _REPLAY,
    ReplayList: {"data": [_REPLAY]},
    DeliveryStarted: {"deliveryId": "dlv_c07f2e96b15da843e0d97b6c315f8a42"},
    DeliveryPage: {
        "data": [_DELIVERY],
        "pagination": {"limit": 25, "hasMore": False, "nextCursor": None},
    },
    DeliveryDetail: _DELIVERY | {"attemptLog": [_ATTEMPT]},
    EndpointList: {"data": [_HOOK | _HOOK_STATE]},
    LeadScore: {
        "leadId": "lead_01K8Z7M2T4V6X8A0C2E4G6J8M0",
        "score": 62,
        "band": "warm",
        "method": "rules",
        "rulesVersion": "builtin-1",
        "computedAt": "2026-10-14T13:05:49.140Z",
        "factors": [
            _make_factor("completeness", "name, company, title, phone", 20, "4 of 4 known"),
            _make_factor("email", "nordvik.example.com", 12, "company address"),
            _make_factor("title", "Head of Operations", 15, "head"),
            _make_factor("customFields.budget", "40k EUR", 15, "budget of about 40,000"),
        ],
    },
    Health: {
        "status": "ok",
        "checks": dict.fromkeys(("database", "migrations", "redis", "workers", "readers"), "ok"),
    },
}


def make_content(body_type: Any) -> dict[str, Any]:
    """Make the `content` of a body in OpenAPI, with its example."""
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{body_type.__name__}"}}
    if body_type in EXAMPLES:
        content["example"] = EXAMPLES[body_type]
    return {"application/json": content}
