"""Webhook endpoints: what comes in, what goes out, and how one is made, read and deleted."""

import asyncio
import base64
import binascii
import secrets
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta
from ulid import ULID

import sql
from service.db import Connection
from service.errors import Fault, NotFound, Unavailable, Unprocessable
from service.models import Input, Moment, Wire
from service.secretbox import SecretBox, make_box
from service.settings import Settings, SettingsError
from service.validation import Check
from service.webhooks.targets import (
    MAX_URL_LENGTH,
    BlockedAddressError,
    TargetError,
    check_url,
    is_allowed_address,
)

EventType = Literal[
    "lead.created", "lead.updated", "lead.qualified", "lead.converted", "lead.deleted",
    "conversation.started", "conversation.completed", "conversation.handoff", "message.received",
    "message.sent", "intent.high_value",
    "webhook.failing", "webhook.disabled", "webhook.expired",
]  # fmt: skip
Status = Literal["active", "paused", "disabled"]
Url = Annotated[
    str, Meta(min_length=1, max_length=MAX_URL_LENGTH, extra_json_schema={"format": "uri"})
]
EventTypes = Annotated[list[EventType], Meta(min_length=1, max_length=100)]

MAX_ENDPOINTS = 1000
"""Of one tenant and mode: each is a delivery per event."""
RESOLVE_TIMEOUT_S = 2.0
SECRET_BYTES = 32
_SECRET_PREFIX = "whsec_"  # noqa: S105  # the form's name, no secret
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64


def check_url_form(url: str) -> Iterator[Fault]:
    """What can be said of a URL without the settings and the network."""
    try:
        check_url(url, private=True)
    except TargetError as error:
        yield make_url_fault(error)


def check_secret(secret: str) -> Iterator[Fault]:
    """Standard Webhooks: `whsec_` and 24 to 64 bytes in base64."""
    try:
        decode_secret(secret)
    except ValueError as error:
        yield Fault("secret", "invalid_secret", f"secret {error}")


class NewEndpoint(Input):
    """The body of POST /v1/webhooks."""

    checks: ClassVar[Mapping[str, Check]] = {"url": check_url_form, "secret": check_secret}
    read_only: ClassVar[frozenset[str]] = frozenset({"id", "status", "createdAt"})

    url: Url
    events: EventTypes
    secret: Annotated[str, Meta(max_length=200)] | None = None


class CreatedEndpoint(Wire, omit_defaults=True):
    """The answer to POST /v1/webhooks; a secret that we made is shown this once."""

    id: str
    url: str
    events: list[str]
    status: Status
    created_at: Moment
    secret: str | None = None


class Endpoint(Wire):
    """An endpoint as it is listed: no secret, and of its own headers only their names.

    `pausedUntil`: nothing is sent before, for it failed too often or asked for it (Retry-After).
    """

    id: str
    url: str
    events: list[str]
    status: Status
    created_at: Moment
    status_reason: str | None
    description: str | None
    payload: Literal["full", "thin"]
    retry: Literal["fast", "standard", "long"]
    coalesce: bool
    rate_limit: int | None
    timeout_ms: int | None
    header_names: list[str]
    updated_at: Moment
    failures: int
    failing_since: Moment | None
    last_success_at: Moment | None
    paused_until: Moment | None


class EndpointList(Wire):
    data: list[Endpoint]


def decode_secret(secret: str) -> bytes:
    """The key in a `whsec_…` secret. Raises ValueError; its message completes `secret …`."""
    text = secret.removeprefix(_SECRET_PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if text == secret or not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise ValueError(
            f"must be {_SECRET_PREFIX} and {_MIN_SECRET_BYTES} to {_MAX_SECRET_BYTES} bytes "
            "in base64."
        )
    return key


def make_secret() -> str:
    """A fresh secret in the form subscribers' libraries take."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def make_url_fault(error: TargetError) -> Fault:
    """A TargetError as a fault of the field `url`."""
    blocked = isinstance(error, BlockedAddressError)
    return Fault("url", "blocked_address" if blocked else "invalid_url", f"url {error}.")


async def check_target(url: str, *, private: bool) -> None:
    """Raises Unprocessable where no webhook may go, by its form or by what its host resolves to.

    A host that does not resolve now may do so later; every dial is checked again.
    """
    try:
        host = check_url(url, private=private)
        if not all(is_allowed_address(a, private=private) for a in await _resolve(host)):
            raise BlockedAddressError("must not resolve to a private or reserved address")
    except TargetError as error:
        fault = make_url_fault(error)
        raise Unprocessable(fault.message, details=[fault]) from None


async def _resolve(host: str) -> list[str]:
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, TimeoutError, UnicodeError):
        return []
    return [str(address[0]) for *_, address in found]


def open_box(settings: Settings) -> SecretBox:
    """The box for secrets; Unavailable, saying what is missing, where SECRET_KEY is."""
    try:
        return make_box(settings)
    except SettingsError as error:
        raise Unavailable(str(error), retry_after_s=60) from None


def no_endpoint(endpoint_id: str) -> NotFound:
    """404 for what is nobody's or somebody else's."""
    return NotFound(f"There is no webhook with the id {endpoint_id}.")


def make_owner(tenant_id: int, endpoint_id: str) -> str:
    """What a sealed secret or header belongs to; see service/secretbox.py."""
    return f"endpoint {endpoint_id} of tenant {tenant_id}"


async def create_endpoint(
    conn: Connection, box: SecretBox, tenant_id: int, live: bool, new: NewEndpoint
) -> CreatedEndpoint:
    """Makes an endpoint: it gets what happens from its createdAt on. In a transaction of its own.

    Raises Unprocessable if the tenant has too many.
    """
    endpoint_id = f"wh_{ULID()}"
    secret = new.secret or make_secret()
    sealed = box.seal(decode_secret(secret), make_owner(tenant_id, endpoint_id))
    events = list(dict.fromkeys(new.events))
    await conn.execute(sql.fanout_gate_close, tenant_id)
    if await conn.fetchval(sql.endpoint_count, tenant_id, live) >= MAX_ENDPOINTS:
        raise Unprocessable(f"There are {MAX_ENDPOINTS} webhooks already, which is the limit.")
    created_at = await conn.fetchval(
        sql.endpoint_insert, tenant_id, live, endpoint_id, new.url, events, sealed
    )
    shown = None if new.secret else secret
    return CreatedEndpoint(
        id=endpoint_id, url=new.url, events=list(events), status="active", created_at=created_at,
        secret=shown,
    )  # fmt: skip


async def list_endpoints(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str | None = None
) -> list[Endpoint]:
    """All endpoints of a tenant and mode, or the one of this id."""
    rows = await conn.fetch(sql.endpoint_list, tenant_id, live, endpoint_id)
    return [_to_endpoint(dict(row)) for row in rows]


async def get_endpoint(conn: Connection, tenant_id: int, live: bool, endpoint_id: str) -> Endpoint:
    """Raises NotFound."""
    found = await list_endpoints(conn, tenant_id, live, endpoint_id)
    if not found:
        raise no_endpoint(endpoint_id)
    return found[0]


async def delete_endpoint(conn: Connection, tenant_id: int, live: bool, endpoint_id: str) -> bool:
    """False if there is none. What waits for it will not be sent."""
    gone = await conn.fetchval(sql.endpoint_delete, tenant_id, live, endpoint_id)
    return gone is not None


def _to_endpoint(fields: dict[str, Any]) -> Endpoint:
    fields["coalesce"] = fields.pop("coalesces")
    return msgspec.convert(
        {name.encode_name: fields[name.name] for name in msgspec.structs.fields(Endpoint)}, Endpoint
    )
