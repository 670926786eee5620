"""The numbers and samples that the guides show, read from the code and settings that they describe.

In a guide, `«name»` shows one of them. tests/service/docs/test_facts.py checks the few numbers that
the guides contain as text, because they are in SQL.
"""

import base64
import json
from datetime import UTC, datetime
from typing import Any, get_args

from service.access.api_keys import MAX_KEYS
from service.access.authentication import CACHE_S
from service.docs.curl_commands import find_example
from service.docs.delivery_errors import make_error_table
from service.docs.schema_words import describe_schema
from service.errors import MOST_LISTED
from service.events import feed
from service.events.event_log import SHARDS
from service.events.event_types import EventType
from service.events.payload import make_thin
from service.http.request import MAX_PARAMETERS
from service.http.server.parsing import HEAD_LIMIT_BYTES, LINE_LIMIT_BYTES
from service.idempotency_keys import MAX_LENGTH as MAX_KEY_LENGTH
from service.leads.listing.pages import MOST_SKIPPED
from service.leads.search import lead_search
from service.settings import Settings
from service.webhooks.deliveries import MAX_ATTEMPTS
from service.webhooks.endpoint_update import MAX_SECRETS, SECRET_OVERLAP_S
from service.webhooks.endpoints import MAX_ENDPOINTS
from service.webhooks.sample_events import make_test_event
from service.webhooks.secrets import decode_secret
from service.webhooks.signing import sign
from service.webhooks.url_policy import MAX_URL_LENGTH
from workers.delivery import lane, retry
from workers.delivery.http_connection import MAX_KEPT_BYTES
from workers.delivery.sender import USER_AGENT
from workers.janitor import RESPONSES_KEPT_S
from workers.streams.positions import StreamName
from workers.streams.redis_streams import GENERATION_KEY, LARGE_EVENT_BYTES, make_key

Json = dict[str, Any]
_UNITS = (("h", 3600), ("min", 60), ("s", 1))
_SPACE = "\N{NO-BREAK SPACE}"
_SAMPLE_AT = datetime(2026, 10, 14, 13, 5, 48, 917000, UTC)
_SAMPLE_ID = "evt_01K8Z7QH3R5T7V9X1Z3B5D7F9H"
_SAMPLE_SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
_SAMPLE_WEBHOOK = "wh_01K8Z7P1C3E5G7J9M1P3R5T7V9"


def make_facts(document: Json, settings: Settings) -> Json:
    """Everything that a guide may show, by name."""
    return {
        "settings": settings,
        "retry": retry,
        "lane": lane,
        "feed": feed,
        "search": lead_search,
        "duration": say_duration,
        "number": "{:,}".format,
        "size": say_size,
        "retry_table": make_retry_table(),
        "error_table": make_error_table(),
        "lead_page": _show_response_example(document, "/v1/leads"),
        "signed": make_signed_example(),
        "lead_limits": _make_field_table(document["components"]["schemas"]["NewLead"]),
        "event_types": get_args(EventType),
        "sample": show_sample,
        "thin_sample": _show(make_thin(_make_sample("lead.updated"))),
        "key_cache_s": CACHE_S,
        "most_listed": MOST_LISTED,
        "max_parameters": MAX_PARAMETERS,
        "head_limit": HEAD_LIMIT_BYTES,
        "line_limit": LINE_LIMIT_BYTES,
        "idempotency_key_length": MAX_KEY_LENGTH,
        "responses_kept_s": RESPONSES_KEPT_S,
        "most_skipped": MOST_SKIPPED,
        "max_keys": MAX_KEYS,
        "max_webhooks": MAX_ENDPOINTS,
        "max_url_length": MAX_URL_LENGTH,
        "max_secrets": MAX_SECRETS,
        "secret_overlap_s": SECRET_OVERLAP_S,
        "max_attempts": MAX_ATTEMPTS,
        "kept_bytes": MAX_KEPT_BYTES,
        "user_agent": USER_AGENT,
        "shards": len(SHARDS),
        "generation_key": GENERATION_KEY,
        "stream_key": make_key(StreamName(1, 3)),
        "large_event_bytes": LARGE_EVENT_BYTES,
    }


def say_duration(seconds: float) -> str:
    """A duration in its largest even unit: `90 s`, `10 min`, `72 h`."""
    for name, length in _UNITS:
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:,.0f}{_SPACE}{name}"
    return f"{seconds:g}{_SPACE}s"


def say_size(size: int) -> str:
    """A number of bytes in KiB or MiB."""
    for name, unit in (("MiB", 1024 * 1024), ("KiB", 1024)):
        if size >= unit and size % unit == 0:
            return f"{size // unit:,}{_SPACE}{name}"
    return f"{size:,}{_SPACE}bytes"


def show_sample(event_type: str) -> str:
    """The JSON of a sample event, as `POST /v1/webhooks/{id}/test` sends it."""
    return _show(_make_sample(event_type))


def _show_response_example(document: Json, path: str) -> str:
    content = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    return _print(find_example(document, content))


def make_signed_example() -> dict[str, str]:
    """A request whose signature every verifier must find: its secret, headers and body."""
    timestamp = int(_SAMPLE_AT.timestamp())
    body = '{"type":"lead.updated","data":{"lead":{"name":"Zoë"}}}'
    return {
        "secret": _SAMPLE_SECRET,
        "id": _SAMPLE_ID,
        "timestamp": str(timestamp),
        "body": body,
        "signature": sign([decode_secret(_SAMPLE_SECRET)], _SAMPLE_ID, timestamp, body.encode()),
    }


def _make_sample(event_type: str) -> bytes:
    return make_test_event(_SAMPLE_ID, event_type, _SAMPLE_WEBHOOK, _SAMPLE_AT)


def _show(event: bytes) -> str:
    return _print(json.loads(event))


def _print(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def make_retry_table() -> str:
    """The delays of each profile as a table in Markdown, without their jitter."""
    lines = ["| `retry` | Delay after each failed attempt | Given up after |", "|---|---|---|"]
    for name, profile in retry.PROFILES.items():
        delays = ", ".join(map(say_duration, profile.delays_s))
        lines.append(f"| `{name}` | {delays}; then the last one again | "
                     f"{say_duration(profile.budget_s)} |")  # fmt: skip
    return "\n".join(lines)


def _make_field_table(schema: Json) -> str:
    lines = ["| Field | Value |", "|---|---|"]
    lines += [
        f"| `{name}` | {describe_schema(part)} |" for name, part in schema["properties"].items()
    ]
    return "\n".join(lines)
