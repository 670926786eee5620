"""The section `webhooks`: the requests that Leadlog sends to receivers, one for each event type."""

from datetime import UTC, datetime
from typing import Any, get_args

import msgspec

from service.docs.openapi.examples.call import WEBHOOK_ID
from service.docs.openapi.schemas import refer
from service.webhooks.event_models import Event
from service.webhooks.sample_events import make_test_event

Json = dict[str, Any]
_EVENT_ID = "evt_01K8Z7QH3R5T7V9X1Z3B5D7F9H"
_AT = datetime(2026, 10, 14, 13, 5, 48, 917_000, UTC)
_DESCRIPTION = (
    "Sent to each webhook that has this type among its `events`, signed as Standard Webhooks says: "
    "verify `webhook-signature` with the secret. The example is a test event. A webhook whose "
    "`payload` is `thin` gets a ThinEvent. The request has the webhook's own `headers` too."
)
_NOT_YET = (
    "Conversations come with a later version of Leadlog: until then only test events have this "
    "type.\n\n"
)
_SIGNATURE = (
    "`v1,` and the HMAC-SHA256 of `<webhook-id>.<webhook-timestamp>.<body>` in base64. While a "
    "secret is being rotated there are several, separated by spaces: one must be right."
)
_HEADERS: dict[str, tuple[str, Json, Any]] = {
    "webhook-id": (
        "The id of the event. It is the same in every attempt and replay: take each id once.",
        {"type": "string"},
        _EVENT_ID,
    ),
    "webhook-timestamp": (
        "When the request was signed, in Unix seconds. Refuse requests that are old.",
        {"type": "integer"},
        int(_AT.timestamp()),
    ),
    "webhook-signature": (
        _SIGNATURE,
        {"type": "string"},
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    "webhook-attempt": (
        "The number of the attempt, from 1.",
        {"type": "integer", "minimum": 1},
        1,
    ),
    "User-Agent": ("The sender.", {"type": "string"}, "Leadlog/0.1 (+webhooks)"),
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds, or an HTTP date. Nothing is sent to the webhook until then, for "
        "up to six hours.",
        "schema": {"type": "string"},
    }
}
_CONTROL = {
    "webhook-delivery": {
        "description": "`abort-message`: never send this event again. `disable`: disable the "
        "webhook.",
        "schema": {"type": "string", "enum": ["abort-message", "disable"]},
    }
}
_RESPONSES: Json = {
    "2XX": {
        "description": "Received. Respond within 15 seconds, or the webhook's `timeoutMs`.",
        "headers": _CONTROL,
    },
    "410": {"description": "Disables the webhook. Its events are held until you enable it again."},
    "429": {"description": "Sent again after `Retry-After`.", "headers": _RETRY_AFTER},
    "503": {"description": "Sent again after `Retry-After`.", "headers": _RETRY_AFTER},
    "default": {
        "description": "Any other status, a redirect too, is a failure: the event is sent again, "
        "at growing intervals, for as long as the webhook's `retry` says.",
        "headers": _CONTROL,
    },
}


def make_webhooks() -> Json:
    """The requests by event type."""
    return {find_type(kind): {"post": _describe(kind)} for kind in get_args(Event)}


def make_header_parameters() -> Json:
    """The headers of all these requests, as components."""
    return {
        name: {
            "name": name,
            "in": "header",
            "description": description,
            "required": True,
            "schema": schema,
            "example": example,
        }
        for name, (description, schema, example) in _HEADERS.items()
    }


def find_type(kind: type[msgspec.Struct]) -> str:
    """The event type that a struct describes."""
    return str(kind.__struct_config__.tag)


def _describe(kind: type[msgspec.Struct]) -> Json:
    event_type = find_type(kind)
    example = msgspec.json.decode(make_test_event(_EVENT_ID, event_type, WEBHOOK_ID, _AT))
    return {
        "operationId": f"receive_{event_type.replace('.', '_')}",
        "summary": " ".join((kind.__doc__ or "").split()),
        "description": _describe_kind(event_type),
        "tags": ["Events of webhooks"],
        "security": [],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in _HEADERS],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": refer(kind.__name__), "example": example}},
        },
        "responses": _RESPONSES,
    }


def _describe_kind(event_type: str) -> str:
    is_made = event_type.startswith(("lead.", "webhook."))
    return _DESCRIPTION if is_made else _NOT_YET + _DESCRIPTION
