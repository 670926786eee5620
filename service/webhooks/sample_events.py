"""Made-up events, each of the shape that real ones of its type have (pure)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from service.log import API_VERSION

_ID = "0" * 26
_BECAME = {"lead.qualified": ("new", "qualified"), "lead.converted": ("qualified", "converted")}
_TALKS = {"conversation.completed": "closed", "conversation.handoff": "handed_off"}


def make_test_event(event_id: str, event_type: str, endpoint_id: str, now: datetime) -> bytes:
    """An envelope like any other, with `test: true` in its data."""
    data = _make_data(event_type, endpoint_id, now)
    envelope = {
        "id": event_id, "type": event_type, "apiVersion": API_VERSION, "createdAt": _show(now),
        "data": data | {"version": 1, "actor": "test", "test": True},
    }  # fmt: skip
    return msgspec.json.encode(envelope)


def _make_data(event_type: str, endpoint_id: str, now: datetime) -> dict[str, Any]:
    if event_type.startswith("webhook."):
        return _make_webhook_data(event_type, endpoint_id, now)
    if not event_type.startswith("lead."):
        return {"conversation": _make_conversation(_TALKS.get(event_type, "active"), _show(now))}
    before, status = _BECAME.get(event_type, ("new", "new"))
    lead = _make_lead(status, _show(now))
    if event_type in _BECAME:
        return {"lead": lead, "changes": {"status": {"from": before, "to": status}}}
    if event_type == "lead.updated":
        return {"lead": lead, "changes": {"name": {"from": None, "to": lead["name"]}}}
    return {"lead": lead}


def _make_lead(status: str, at: str) -> dict[str, Any]:
    return {
        "id": f"lead_{_ID}", "email": "test@example.com", "name": "Test Lead",
        "company": "Example", "title": None, "phone": None, "status": status, "score": 0,
        "source": "api", "tags": [], "customFields": {}, "firstSeenAt": at, "lastActiveAt": at,
        "createdAt": at, "updatedAt": at,
    }  # fmt: skip


def _make_conversation(status: str, at: str) -> dict[str, Any]:
    return {
        "id": f"conv_{_ID}", "leadId": f"lead_{_ID}", "visitorId": None, "channel": "web_chat",
        "status": status, "subject": "Test", "messageCount": 1, "summary": None,
        "intents": ["pricing"], "leadScore": 0, "assignedTo": None, "startedAt": at,
        "lastMessageAt": at,
    }  # fmt: skip


def _make_webhook_data(event_type: str, endpoint_id: str, now: datetime) -> dict[str, Any]:
    is_disabled, is_failing = event_type == "webhook.disabled", event_type == "webhook.failing"
    since = now - timedelta(days=3)
    webhook = {
        "id": endpoint_id, "description": None, "status": "disabled" if is_disabled else "active",
        "statusReason": "Test" if is_disabled else None, "failures": 40 * is_failing,
        "failingSince": _show(since) if is_failing else None,
        "lastSuccessAt": _show(since),
        "disablesAt": _show(since + timedelta(days=5)) if is_failing else None,
    }  # fmt: skip
    if event_type != "webhook.expired":
        return {"webhook": webhook}
    expired = {"count": 1, "since": _show(since), "until": _show(since)}
    return {"webhook": webhook, "expired": expired}


def _show(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
