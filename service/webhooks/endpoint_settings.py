"""The settings of a webhook endpoint that clients can write: their types, checks and columns."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.encryption import Encryptor
from service.errors import Fault
from service.events.event_types import EventPattern
from service.validation.field_types import Check, Input
from service.webhooks.url_policy import (
    MAX_URL_LENGTH,
    BlockedAddressError,
    TargetError,
    check_url,
)

Url = Annotated[
    str, Meta(min_length=1, max_length=MAX_URL_LENGTH, extra_json_schema={"format": "uri"})
]
EventPatterns = Annotated[list[EventPattern], Meta(min_length=1, max_length=100)]
WantedStatus = Literal["active", "paused"]
Payload = Literal["full", "thin"]
Retry = Literal["fast", "standard", "long"]

MAX_HEADERS = 20
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?")
_VALUE_RULE = "must be 1 to 1,024 printable ASCII characters, without a space at either end."
_RESERVED_HEADERS = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "content-type",
        "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "user-agent", "via",
    }
)  # fmt: skip

Headers = Annotated[
    dict[
        Annotated[str, Meta(extra_json_schema={"pattern": f"^{_HEADER_NAME.pattern}$"})],
        Annotated[str, Meta(extra_json_schema={"pattern": f"^{_HEADER_VALUE.pattern}$"})],
    ],
    Meta(max_length=MAX_HEADERS),
]


def make_url_fault(error: TargetError) -> Fault:
    """Convert a TargetError to a fault of the field `url`."""
    blocked = isinstance(error, BlockedAddressError)
    return Fault("url", "blocked_address" if blocked else "invalid_url", f"url {error}.")


def check_url_form(url: str) -> Iterator[Fault]:
    """Check a URL as far as possible without the settings and the network."""
    try:
        check_url(url, private=True)
    except TargetError as error:
        yield make_url_fault(error)


def check_headers(headers: dict[str, str]) -> Iterator[Fault]:
    """Check that names and values are valid in HTTP and that no name is reserved."""
    for name, value in headers.items():
        field = f"headers.{name[:64]}"
        if not _HEADER_NAME.fullmatch(name):
            yield Fault(
                "headers", "invalid_value", "headers holds a name that HTTP does not allow."
            )
        elif name.lower() in _RESERVED_HEADERS or name.lower().startswith("webhook-"):
            yield Fault(field, "invalid_value", f"{field} is reserved and cannot be set.")
        elif not _HEADER_VALUE.fullmatch(value):
            yield Fault(field, "invalid_value", f"{field} {_VALUE_RULE}")
    if len({name.lower() for name in headers}) != len(headers):
        yield Fault("headers", "duplicate", "headers holds a name twice.")


class EndpointSettings(Input):
    """The settings that POST and PATCH take; null clears an optional one."""

    checks: ClassVar[Mapping[str, Check]] = {"url": check_url_form, "headers": check_headers}
    read_only: ClassVar[frozenset[str]] = frozenset(
        {
            "id", "createdAt", "updatedAt", "statusReason", "failures", "failingSince",
            "lastSuccessAt", "pausedUntil", "headerNames",
        }
    )  # fmt: skip

    url: Url | UnsetType = UNSET
    events: EventPatterns | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=500)] | UnsetType | None = UNSET
    status: WantedStatus | UnsetType = UNSET
    rate_limit: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType | None = UNSET
    timeout_ms: Annotated[int, Meta(ge=1000, le=30_000)] | UnsetType | None = UNSET
    payload: Payload | UnsetType = UNSET
    headers: Headers | UnsetType | None = UNSET
    coalesce: bool | UnsetType = UNSET
    retry: Retry | UnsetType = UNSET


def encode_settings(settings: EndpointSettings, encryptor: Encryptor, owner: str) -> str:
    """Encode the settings that are set as JSON by column name, with encrypted headers."""
    columns: dict[str, Any] = {
        name: value
        for name in EndpointSettings.__struct_fields__
        if (value := getattr(settings, name)) is not UNSET
    }
    if "coalesce" in columns:
        columns["coalesces"] = columns.pop("coalesce")
    if "events" in columns:
        columns["events"] = list(dict.fromkeys(columns["events"]))
    if "headers" in columns:
        headers = columns["headers"]
        sealed = encryptor.seal(msgspec.json.encode(headers), owner) if headers else None
        columns["headers"] = None if sealed is None else f"\\x{sealed.hex()}"
        columns["header_names"] = sorted(headers or {})
    return msgspec.json.encode(columns).decode()
