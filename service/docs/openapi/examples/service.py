"""API keys, and the service's own routes."""

from collections.abc import Mapping
from typing import Any

from service.docs.openapi.examples.call import KEY_ID, Call

_KEY: dict[str, Any] = {
    "id": KEY_ID,
    "name": "website form",
    "scope": "write",
    "mode": "live",
    "key": "sk_live_…x7Qm",
    "last4": "x7Qm",
    "createdAt": "2026-09-01T08:00:00.000Z",
    "expiresAt": None,
    "lastUsedAt": None,
}
_ROTATED = _KEY | {
    "id": "key_01K8Z7S4J6M8P0R2T4V6X8A0C2",
    "key": "sk_live_…c81V",
    "last4": "c81V",
    "createdAt": "2026-10-14T14:20:00.000Z",
}
_CHECKS = dict.fromkeys(("database", "migrations", "redis", "workers", "readers"), "ok")

CALLS: Mapping[str, Call] = {
    "create_api_key": Call(body={"name": "website form", "scope": "write"}, reply=_KEY),
    "list_api_keys": Call(
        reply={"data": [{name: value for name, value in _KEY.items() if name != "key"}]}
    ),
    "rotate_api_key": Call(ids={"id": KEY_ID}, body={"graceSeconds": 3600}, reply=_ROTATED),
    "revoke_api_key": Call(ids={"id": KEY_ID}),
    "report_live": Call(reply={"status": "ok", "checks": {}}),
    "report_ready": Call(
        reply={"status": "ok", "checks": _CHECKS},
        also={
            503: {
                "status": "failing",
                "checks": {"database": "cannot be reached (ConnectionError)"},
            }
        },
    ),
    "report_metrics": Call(),
    "send_openapi": Call(),
}
