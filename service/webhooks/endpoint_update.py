"""Changes to a webhook endpoint: PATCH, and rotation of its secret."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

import sql
from service.database.connect import Connection
from service.encryption import Encryptor
from service.errors import Conflict, Fault, InvalidRequest
from service.validation.field_types import ApiStruct, Check, Input, Moment, parse_moment
from service.webhooks.endpoints import EventTypes, Url, check_url_form
from service.webhooks.secrets import decode_secret, make_secret, make_secret_owner

SECRET_OVERLAP_S = 86400
MAX_SECRETS = 10
"""Secrets that sign at the same time: each makes the header of every request longer."""
_SKIP_ALL = datetime.max.replace(tzinfo=UTC)
"""Skips all waiting deliveries: endpoint_update replaces a time in the future by now()."""
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

Resume = Annotated[
    str,
    Meta(
        extra_json_schema={
            "anyOf": [
                {"type": "string", "enum": ["replay", "skip"]},
                {"type": "string", "format": "date-time"},
            ]
        }
    ),
]

Headers = Annotated[
    dict[
        Annotated[str, Meta(extra_json_schema={"pattern": f"^{_HEADER_NAME.pattern}$"})],
        Annotated[str, Meta(extra_json_schema={"pattern": f"^{_HEADER_VALUE.pattern}$"})],
    ],
    Meta(max_length=MAX_HEADERS),
]


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


def check_resume(resume: str) -> Iterator[Fault]:
    """Check that the text is `replay`, `skip` or a time in the past."""
    if resume in {"replay", "skip"}:
        return
    try:
        moment = parse_moment(resume)
    except ValueError:
        yield Fault("resume", "invalid_value", "resume must be replay, skip or an ISO 8601 time.")
        return
    if moment > datetime.now(UTC):
        yield Fault("resume", "impossible_range", "resume must be a time that has passed.")


class EndpointPatch(Input):
    """The body of PATCH /v1/webhooks/{id}: an absent field is kept, null clears an optional one."""

    checks: ClassVar[Mapping[str, Check]] = {
        "url": check_url_form,
        "headers": check_headers,
        "resume": check_resume,
    }
    read_only: ClassVar[frozenset[str]] = frozenset(
        {
            "id",
            "createdAt",
            "updatedAt",
            "statusReason",
            "failures",
            "failingSince",
            "lastSuccessAt",
            "pausedUntil",
            "headerNames",
            "secret",
        }
    )

    url: Url | UnsetType = UNSET
    events: EventTypes | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=500)] | UnsetType | None = UNSET
    status: Literal["active", "paused"] | UnsetType = UNSET
    resume: Resume | UnsetType = UNSET
    rate_limit: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType | None = UNSET
    timeout_ms: Annotated[int, Meta(ge=1000, le=30_000)] | UnsetType | None = UNSET
    payload: Literal["full", "thin"] | UnsetType = UNSET
    headers: Headers | UnsetType | None = UNSET
    coalesce: bool | UnsetType = UNSET
    retry: Literal["fast", "standard", "long"] | UnsetType = UNSET


class RotatedSecret(ApiStruct):
    """The response to rotate-secret, the only one that shows the new secret."""

    secret: str
    previous_expires_at: Moment


async def update_endpoint(
    conn: Connection,
    encryptor: Encryptor,
    tenant_id: int,
    live: bool,
    endpoint_id: str,
    patch: EndpointPatch,
) -> bool:
    """Change an endpoint, within a transaction; False if there is no such endpoint.

    Raises InvalidRequest if the patch has `resume` but does not make the endpoint active.
    """
    await conn.execute(sql.fanout_gate_close, tenant_id)
    columns = encode_endpoint_patch(patch, encryptor, make_secret_owner(tenant_id, endpoint_id))
    resumed: bool | None = await conn.fetchval(
        sql.endpoint_update,
        tenant_id,
        live,
        endpoint_id,
        msgspec.json.encode(columns).decode(),
        find_skip_before(patch.resume),
    )
    if resumed is False and patch.resume is not UNSET:
        message = 'resume needs "status": "active" and a webhook that is paused or disabled.'
        fault = Fault("resume", "not_resumed", message)
        raise InvalidRequest(message, details=[fault])
    return resumed is not None


async def rotate_secret(
    conn: Connection, encryptor: Encryptor, tenant_id: int, live: bool, endpoint_id: str
) -> RotatedSecret | None:
    """Make a new secret, within a transaction; the previous one continues to sign for a day.

    None if there is no such endpoint. Raises Conflict if MAX_SECRETS secrets sign already.
    """
    secrets = await conn.fetchrow(sql.endpoint_secret_lock, tenant_id, live, endpoint_id)
    if secrets is not None and secrets["signing"] >= MAX_SECRETS:
        raise Conflict(
            f"{MAX_SECRETS} secrets of this webhook sign at present, which is the limit. "
            f"The first of them expires at {secrets['first_expires_at']}: rotate again then."
        )
    secret = make_secret()
    sealed = encryptor.seal(decode_secret(secret), make_secret_owner(tenant_id, endpoint_id))
    row = await conn.fetchrow(
        sql.endpoint_secret_rotate, tenant_id, live, endpoint_id, sealed, SECRET_OVERLAP_S
    )
    return None if row is None else RotatedSecret(secret=secret, **row)


def encode_endpoint_patch(patch: EndpointPatch, encryptor: Encryptor, owner: str) -> dict[str, Any]:
    """Convert a patch to JSON values by column name, with encrypted headers."""
    columns = {
        name: value
        for name, value in msgspec.structs.asdict(patch).items()
        if value is not UNSET and name not in {"resume", "coalesce", "headers"}
    }
    if patch.coalesce is not UNSET:
        columns["coalesces"] = patch.coalesce
    if isinstance(patch.events, list):
        columns["events"] = list(dict.fromkeys(patch.events))
    if patch.headers is not UNSET:
        names = sorted(patch.headers or {})
        sealed = encryptor.seal(msgspec.json.encode(patch.headers), owner) if names else None
        columns["headers"] = None if sealed is None else f"\\x{sealed.hex()}"
        columns["header_names"] = names
    return columns


def find_skip_before(resume: str | UnsetType) -> datetime | None:
    """The time before which waiting deliveries are skipped; None: no delivery is skipped."""
    if resume is UNSET or resume == "replay":
        return None
    return _SKIP_ALL if resume == "skip" else parse_moment(str(resume))
