"""The story of one lead: created, scored, changed, scored again, then read in all ways."""

from collections.abc import Mapping
from typing import Any

from service.docs.openapi.examples.call import KEY_ID, LEAD_ID, Call

EMAIL = "ines.duarte@nordvik.example.com"
_CREATED_AT, _CHANGED_AT = "2026-09-03T07:20:11.402Z", "2026-10-14T13:05:48.917Z"
_NEW = {
    "email": EMAIL,
    "name": "Inês Duarte",
    "company": "Nordvik Logistics",
    "source": "form",
    "tags": ["nordics"],
    "customFields": {"fleetSize": 140},
}
_PATCH = {
    "status": "qualified",
    "title": "Head of Operations",
    "tags": ["nordics", "pilot"],
    "customFields": {"budget": "$40k", "fleetSize": None},
}
_FIRST_SCORE, _SCORE = 22, 48
_CREATED: dict[str, Any] = {
    "id": LEAD_ID,
    "email": EMAIL,
    "name": "Inês Duarte",
    "company": "Nordvik Logistics",
    "title": None,
    "phone": None,
    "status": "new",
    "score": 0,
    "source": "form",
    "tags": ["nordics"],
    "customFields": {"fleetSize": 140},
    "firstSeenAt": _CREATED_AT,
    "lastActiveAt": _CREATED_AT,
    "createdAt": _CREATED_AT,
    "updatedAt": _CREATED_AT,
}
_CHANGED = _CREATED | {
    "title": "Head of Operations",
    "status": "qualified",
    "score": _FIRST_SCORE,
    "tags": ["nordics", "pilot"],
    "customFields": {"budget": "$40k"},
    "lastActiveAt": _CHANGED_AT,
    "updatedAt": _CHANGED_AT,
}
_SCORED = _CHANGED | {"score": _SCORE}
_TIMES = ("firstSeenAt", "lastActiveAt", "createdAt", "updatedAt")
_DETAIL = (
    {name: value for name, value in _SCORED.items() if name not in _TIMES}
    | {"conversationCount": 0, "lastIntent": None, "assignedTo": None}
    | {name: _SCORED[name] for name in _TIMES}
)
_HIT = ("id", "email", "name", "company", "status", "score")
_PAGE = {"page": 1, "limit": 25, "total": 1, "totalPages": 1, "hasMore": False}
_STATUS_CHANGE = {"from": "new", "to": "qualified"}
_CHANGES = {
    "title": {"from": None, "to": "Head of Operations"},
    "status": _STATUS_CHANGE,
    "tags": {"from": ["nordics"], "to": ["nordics", "pilot"]},
    "customFields": {"from": {"fleetSize": 140}, "to": {"budget": "$40k"}},
}


def _make_entry(id_: str, kind: str, at: str, summary: str, actor: str) -> dict[str, str]:
    return {"id": id_, "type": kind, "at": at, "summary": summary, "actor": actor}


def _make_event(id_: str, kind: str, at: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"id": id_, "type": kind, "apiVersion": "2026-01-15", "createdAt": at, "data": data}


def _make_factor(feature: str, value: Any, contribution: int, note: str) -> dict[str, Any]:
    return {"feature": feature, "value": value, "contribution": contribution, "note": note}


_EVENT_IDS = (
    "evt_01K8Z7M2T5W7Y9B1D3F5H7K9N1",
    "evt_01K8Z7M2ZTA4C6E8G0J2M4P6R8",
    "evt_01K8Z7QH3R5T7V9X1Z3B5D7F9H",
    "evt_01K8Z7QH3S6V8X0A2C4E6G8J0M",
    "evt_01K8Z7QHA3C5E7G9J1M3P5R7T9",
)
_FIRST_SCORED_AT, _SCORED_AT = "2026-09-03T07:20:11.530Z", "2026-10-14T13:05:49.140Z"
_TIMELINE = [
    _make_entry(
        _EVENT_IDS[4], "lead.updated", _SCORED_AT, f"score {_FIRST_SCORE} → {_SCORE}", "scorer"
    ),
    _make_entry(_EVENT_IDS[3], "lead.qualified", _CHANGED_AT, "Qualified", KEY_ID),
    _make_entry(
        _EVENT_IDS[2],
        "lead.updated",
        _CHANGED_AT,
        "title: none → Head of Operations; status: new → qualified; tags: +pilot; "
        "customFields: fleetSize, budget",
        KEY_ID,
    ),
    _make_entry(
        _EVENT_IDS[1], "lead.updated", _FIRST_SCORED_AT, f"score 0 → {_FIRST_SCORE}", "scorer"
    ),
    _make_entry(_EVENT_IDS[0], "lead.created", _CREATED_AT, "Created from form", KEY_ID),
]
_EVENTS = [
    _make_event(
        _EVENT_IDS[0],
        "lead.created",
        _CREATED_AT,
        {"lead": _CREATED, "version": 1, "actor": KEY_ID},
    ),
    _make_event(
        _EVENT_IDS[3],
        "lead.qualified",
        _CHANGED_AT,
        {"lead": _CHANGED, "version": 4, "changes": _CHANGES, "actor": KEY_ID},
    ),
]

CALLS: Mapping[str, Call] = {
    "capture_lead": Call(body=_NEW, reply=_CREATED),
    "update_lead": Call(ids={"id": LEAD_ID}, body=_PATCH, reply=_CHANGED),
    "get_lead": Call(
        ids={"id": LEAD_ID},
        reply=_DETAIL | {"conversationSummary": None, "timeline": _TIMELINE},
    ),
    "list_leads": Call(reply={"data": [_SCORED], "pagination": _PAGE}),
    "search_leads": Call(
        query={"q": "nordvik"},
        reply={
            "data": [
                {name: _SCORED[name] for name in _HIT}
                | {"matchField": "company", "lastActiveAt": _CHANGED_AT}
            ],
            "pagination": _PAGE,
        },
    ),
    "get_score": Call(
        ids={"id": LEAD_ID},
        reply={
            "leadId": LEAD_ID,
            "score": _SCORE,
            "band": "warm",
            "method": "rules",
            "rulesVersion": "builtin-1",
            "computedAt": _SCORED_AT,
            "factors": [
                _make_factor("title", "Head of Operations", 12, "director"),
                _make_factor("customFields.budget", "$40k", 8, "budget of about 40,000"),
                _make_factor("completeness", "name, company, title", 6, "3 of 4 known"),
                _make_factor("source", "form", 6, "source of the lead"),
                _make_factor("email", "nordvik.example.com", 6, "company address"),
                _make_factor("lastActiveAt", "within 7 days", 6, "recently active"),
                _make_factor("status", "qualified", 4, "status of the lead"),
            ],
        },
    ),
    "delete_lead": Call(ids={"id": LEAD_ID}),
    "list_events": Call(
        query={"types": "lead.created,lead.qualified"},
        reply={
            "data": _EVENTS,
            "pagination": {
                "limit": 100,
                "hasMore": False,
                "nextCursor": "kJ0mWmFzMdtbMSw0MTc3MiwwLDE3OTE5ODMxNDk1NTEwMDBd",
            },
        },
    ),
}
