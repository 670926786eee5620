"""Test events, with the same fields as real events of their type (pure)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from service.events.event_log import API_VERSION

_ID = "0" * 26
_STATUS_CHANGES = {
    "lead.qualified": ("new", "qualified"),
    "lead.converted": ("qualified", "converted"),
}
_CONVERSATION_STATUS = {"conversation.completed": "closed", "conversation.handoff": "handed_off"}


def make_test_event(event_id: str, event_type: str, endpoint_id: str, now: datetime) -> bytes:
    """Make the envelope of a test event, with `test: true` in its data."""
    data = _make_data(event_type, endpoint_id, now)
    envelope = {
        "id": event_id,
        "type": event_type,
        "apiVersion": API_VERSION,
        "createdAt": _format_time(now),
        "data": data | {"version": 1, "actor": "test", "test": True},
    }
    return msgspec.json.encode(envelope)


def _make_data(event_type: str, endpoint_id: str, now: datetime) -> dict[str, Any]:
    if event_type.startswith("webhook."):
        return _make_webhook_data(event_type, endpoint_id, now)
    if not event_type.startswith("lead."):
        return {
            "conversation": _make_conversation(
                _CONVERSATION_STATUS.get(event_type, "active"), _format_time(now)
            )
        }
    before, status = _STATUS_CHANGES.get(event_type, ("new", "new"))
    lead = _make_lead(status, _format_time(now))
    if event_type in _STATUS_CHANGES:
        return {"lead": lead, "changes": {"status": {"from": before, "to": status}}}
    if event_type == "lead.updated":
        return {"lead": lead, "changes": {"name": {"from": None, "to": lead["name"]}}}
    return {"lead": lead}


def _make_lead(status: str, at: str) -> dict[str, Any]:
    return {
        "id": f"lead_{_ID}",
        "email": "test@example.com",
        "name": "Test Lead",
        "company": "Example",
        "title": None,
        "phone": None,
        "status": status,
        "score": 0,
        "source": "api",
        "tags": [],
        "customFields": {},
        "firstSeenAt": at,
        "lastActiveAt": at,
        "createdAt": at,
        "updatedAt": at,
    }


def _make_conversation(status: str, at: str) -> dict[str, Any]:
    return {
        "id": f"conv_{_ID}",
        "leadId": f"lead_{_ID}",
        "visitorId": None,
        "channel": "web_chat",
        "status": status,
        "subject": "Test",
        "messageCount": 1,
        "summary": None,
        "intents": ["pricing"],
        "leadScore": 0,
        "assignedTo": None,
        "startedAt": at,
        "lastMessageAt": at,
    }


def _make_webhook_data(event_type: str, endpoint_id: str, now: datetime) -> dict[str, Any]:
    is_disabled, is_failing = event_type == "webhook.disabled", event_type == "webhook.failing"
    since = now - timedelta(days=3)
    webhook = {
        "id": endpoint_id,
        "description": None,
        "status": "disabled" if is_disabled else "active",
        "statusReason": "Test" if is_disabled else None,
        "failures": 40 * is_failing,
        "failingSince": _format_time(since) if is_failing else None,
        "lastSuccessAt": _format_time(since),
        "disablesAt": _format_time(since + timedelta(days=5)) if is_failing else None,
    }
    if event_type != "webhook.expired":
        return {"webhook": webhook}
    expired = {"count": 1, "since": _format_time(since), "until": _format_time(since)}
    return {"webhook": webhook, "expired": expired}


def _format_time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
