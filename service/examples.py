"""One example of each body and reply, for the API's description; each is valid, by test."""

from typing import Any

from service.handlers.health import Health
from service.keys import KeyList, KeyRequest, KeyRotation, NewKey
from service.models import Lead, LeadDetail, LeadPatch, NewLead

_KNOWN = {
    "id": "lead_01K8Z7M2T4V6X8A0C2E4G6J8M0",
    "email": "ines.duarte@fjordline.no",
    "name": "Inês Duarte",
    "company": "Fjordline Logistics",
    "title": "Head of Operations",
    "phone": "+47 22 12 34 56",
    "status": "contacted",
    "score": 62,
    "source": "form",
    "tags": ["nordics", "pilot"],
    "customFields": {"fleetSize": 140, "budget": "40k EUR", "integrations": ["ERP", "TMS"]},
}
_TALKED = {"conversationCount": 2, "lastIntent": "pricing", "assignedTo": "user_marta"}
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
    "last4": "x7Qm",
    "createdAt": "2026-09-01T08:00:00.000Z",
    "expiresAt": None,
    "lastUsedAt": "2026-10-14T13:05:48.000Z",
}

EXAMPLES: dict[Any, Any] = {
    NewLead: {
        "email": "ines.duarte@fjordline.no",
        "name": "Inês Duarte",
        "company": "Fjordline Logistics",
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
    Lead: _KNOWN | _TIMES,
    LeadDetail: _KNOWN
    | _TALKED
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
    NewKey: _KEY | {"key": "sk_live_…x7Qm", "lastUsedAt": None},
    KeyList: {"data": [_KEY]},
    Health: {"status": "ok", "checks": {"database": "ok", "migrations": "ok", "readers": "ok"}},
}
