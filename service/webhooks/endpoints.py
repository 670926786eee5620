"""Webhook endpoints: their requests and responses, and how they are created, read and deleted."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

import sql
from service.database.connect import Connection
from service.encryption import Encryptor
from service.errors import Fault, NotFound, Unprocessable
from service.ids import make_id
from service.validation.field_types import ApiStruct, Check, Moment
from service.webhooks.endpoint_settings import (
    EndpointSettings,
    EventPatterns,
    Headers,
    Payload,
    Retry,
    Url,
    WantedStatus,
    encode_settings,
    make_url_fault,
)
from service.webhooks.secrets import decode_secret, make_secret, make_secret_owner
from service.webhooks.url_policy import (
    BlockedAddressError,
    TargetError,
    check_url,
    is_allowed_address,
)

Status = Literal["active", "paused", "disabled"]

MAX_ENDPOINTS = 1000
"""Endpoints of one tenant and mode: each event becomes a delivery of each of them."""
RESOLVE_TIMEOUT_S = 2.0


def check_secret(secret: str) -> Iterator[Fault]:
    """Check the form of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64."""
    try:
        decode_secret(secret)
    except ValueError as error:
        yield Fault("secret", "invalid_secret", f"secret {error}")


class NewEndpoint(EndpointSettings):
    """The body of POST /v1/webhooks: the settings of PATCH, with defaults, and a secret."""

    checks: ClassVar[Mapping[str, Check]] = {**EndpointSettings.checks, "secret": check_secret}

    url: Url
    events: EventPatterns
    status: WantedStatus = "active"
    payload: Payload = "full"
    headers: Headers | None = None
    coalesce: bool = False
    retry: Retry = "standard"
    secret: Annotated[str, Meta(max_length=200)] | None = None


class Endpoint(ApiStruct):
    """An endpoint as responses show it, without its secret and the values of its headers.

    Nothing is sent before `pausedUntil`: the endpoint failed too often, or sent Retry-After.
    """

    id: str
    url: str
    events: list[str]
    status: Status
    created_at: Moment
    status_reason: str | None
    description: str | None
    payload: Payload
    retry: Retry
    coalesce: bool
    rate_limit: int | None
    timeout_ms: int | None
    header_names: list[str]
    updated_at: Moment
    failures: int
    failing_since: Moment | None
    last_success_at: Moment | None
    paused_until: Moment | None


class CreatedEndpoint(Endpoint):
    """The response to POST /v1/webhooks, the only one that shows a generated secret."""

    secret: str | UnsetType = UNSET


class EndpointList(ApiStruct):
    """All webhooks of the tenant and mode, on one page: at most 1,000."""

    data: list[Endpoint]


async def check_target(url: str, *, private: bool) -> None:
    """Check that a webhook may go to a URL, by its form and by the addresses of its host.

    A host that does not resolve is accepted, since it may resolve later: the dispatcher checks the
    address again at every connection. Raises Unprocessable.
    """
    try:
        host = check_url(url, private=private)
        if not all(
            is_allowed_address(address, private=private) for address in await _resolve(host)
        ):
            raise BlockedAddressError("must not resolve to a private or reserved address")
    except TargetError as error:
        fault = make_url_fault(error)
        raise Unprocessable(fault.message, details=[fault]) from None


async def _resolve(host: str) -> list[str]:
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            infos = await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, TimeoutError, UnicodeError):
        return []
    return [str(address[0]) for *_, address in infos]


def endpoint_not_found(endpoint_id: str) -> NotFound:
    """Make the error for an endpoint that is not one of the caller's."""
    return NotFound(f"There is no webhook with the id {endpoint_id}.")


async def create_endpoint(
    conn: Connection, encryptor: Encryptor, tenant_id: int, live: bool, new: NewEndpoint
) -> CreatedEndpoint:
    """Create an endpoint, in a transaction of its own; it receives events from its createdAt on.

    Raises Unprocessable if the tenant has MAX_ENDPOINTS already.
    """
    endpoint_id = make_id("wh")
    secret, owner = new.secret or make_secret(), make_secret_owner(tenant_id, endpoint_id)
    sealed = encryptor.seal(decode_secret(secret), owner)
    await conn.execute(sql.fanout_gate_close, tenant_id)
    if await conn.fetchval(sql.endpoint_count, tenant_id, live) >= MAX_ENDPOINTS:
        raise Unprocessable(f"There are {MAX_ENDPOINTS} webhooks already, which is the limit.")
    settings = encode_settings(new, encryptor, owner)
    await conn.execute(sql.endpoint_insert, tenant_id, live, endpoint_id, settings, sealed)
    made = await get_endpoint(conn, tenant_id, live, endpoint_id)
    shown = UNSET if new.secret else secret
    return CreatedEndpoint(**msgspec.structs.asdict(made), secret=shown)


async def list_endpoints(conn: Connection, tenant_id: int, live: bool) -> str:
    """The endpoints of a tenant and mode as JSON, each as Endpoint, separated by commas.

    PostgreSQL makes the JSON: Python would block the event loop for 40 ms to make that of 1,000.
    """
    return await conn.fetchval(sql.endpoint_list, tenant_id, live, None) or ""


async def get_endpoint(conn: Connection, tenant_id: int, live: bool, endpoint_id: str) -> Endpoint:
    """Read an endpoint. Raises NotFound."""
    found = await conn.fetchval(sql.endpoint_list, tenant_id, live, endpoint_id)
    if found is None:
        raise endpoint_not_found(endpoint_id)
    return msgspec.json.decode(found, type=Endpoint)


async def delete_endpoint(conn: Connection, tenant_id: int, live: bool, endpoint_id: str) -> bool:
    """Delete an endpoint; False if there is none. Its waiting deliveries will be cancelled."""
    deleted_id = await conn.fetchval(sql.endpoint_delete, tenant_id, live, endpoint_id)
    return deleted_id is not None
