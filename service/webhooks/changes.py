"""Changes to a webhook endpoint: PATCH, and a new secret beside the old one."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

import sql
from service.db import Connection
from service.errors import Conflict, Fault, InvalidRequest
from service.models import Input, Moment, Wire, parse_moment
from service.secretbox import SecretBox
from service.validation import Check
from service.webhooks.endpoints import (
    EventTypes,
    Url,
    check_url_form,
    decode_secret,
    make_owner,
    make_secret,
)

SECRET_OVERLAP_S = 86400
MAX_SECRETS = 10
"""That sign at a time: each makes the header of every request longer."""
_ALL_THAT_WAITS = datetime.max.replace(tzinfo=UTC)
"""The database, whose clock dates deliveries, makes it its own now."""
MAX_HEADERS = 20
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?")
_OUR_HEADERS = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "content-type",
        "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "user-agent", "via",
    }
)  # fmt: skip

Resume = Annotated[
    str,
    Meta(extra_json_schema={"anyOf": [{"enum": ["replay", "skip"]}, {"format": "date-time"}]}),
]

Headers = Annotated[
    dict[
        Annotated[str, Meta(extra_json_schema={"pattern": f"^{_HEADER_NAME.pattern}$"})],
        Annotated[str, Meta(extra_json_schema={"pattern": f"^{_HEADER_VALUE.pattern}$"})],
    ],
    Meta(max_length=MAX_HEADERS),
]


def check_headers(headers: dict[str, str]) -> Iterator[Fault]:
    """Names and values as HTTP has them, and none that we or the connection need."""
    for name, value in headers.items():
        field = f"headers.{name[:64]}"
        if not _HEADER_NAME.fullmatch(name):
            yield Fault(
                "headers", "invalid_value", "headers holds a name that HTTP does not allow."
            )
        elif name.lower() in _OUR_HEADERS or name.lower().startswith("webhook-"):
            yield Fault(field, "invalid_value", f"{field} is set by the service.")
        elif not _HEADER_VALUE.fullmatch(value):
            yield Fault(
                field, "invalid_value", f"{field} must be 1 to 1,024 printable ASCII characters."
            )
    if len({name.lower() for name in headers}) != len(headers):
        yield Fault("headers", "duplicate", "headers holds a name twice.")


def check_resume(resume: str) -> Iterator[Fault]:
    """`replay`, `skip`, or a time that has passed."""
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
    """The body of PATCH /v1/webhooks/{id}: absent keeps, null clears where that means something."""

    checks: ClassVar[Mapping[str, Check]] = {
        "url": check_url_form, "headers": check_headers, "resume": check_resume,
    }  # fmt: skip
    read_only: ClassVar[frozenset[str]] = frozenset(
        {
            "id", "createdAt", "updatedAt", "statusReason", "failures", "failingSince",
            "lastSuccessAt", "pausedUntil", "headerNames", "secret",
        }
    )  # fmt: skip

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


class RotatedSecret(Wire):
    """The answer to rotate-secret; the secret is shown this once."""

    secret: str
    previous_expires_at: Moment
    """Until then the old one signs beside it."""


async def change_endpoint(
    conn: Connection,
    box: SecretBox,
    tenant_id: int,
    live: bool,
    endpoint_id: str,
    patch: EndpointPatch,
) -> bool:
    """False if there is no such endpoint. In a transaction.

    Raises InvalidRequest if `resume` is asked for and nothing is resumed.
    """
    await conn.execute(sql.fanout_gate_close, tenant_id)
    columns = encode_endpoint_patch(patch, box, make_owner(tenant_id, endpoint_id))
    resumed: bool | None = await conn.fetchval(
        sql.endpoint_update, tenant_id, live, endpoint_id,
        msgspec.json.encode(columns).decode(), find_skip_before(patch.resume),
    )  # fmt: skip
    if resumed is False and patch.resume is not UNSET:
        message = 'resume goes with "status": "active" for a webhook that is paused or disabled.'
        fault = Fault("resume", "not_resumed", message)
        raise InvalidRequest(message, details=[fault])
    return resumed is not None


async def rotate_secret(
    conn: Connection, box: SecretBox, tenant_id: int, live: bool, endpoint_id: str
) -> RotatedSecret | None:
    """A new secret; the old one signs on beside it for a day. None if there is no such endpoint.

    In a transaction. Raises Conflict if so many sign already that another would be too many.
    """
    secrets = await conn.fetchrow(sql.endpoint_secret_lock, tenant_id, live, endpoint_id)
    if secrets is not None and secrets["signing"] >= MAX_SECRETS:
        raise Conflict(
            f"{MAX_SECRETS} secrets of this webhook sign at present, which is the limit. "
            f"The first of them expires at {secrets['first_expires_at']}: rotate again then."
        )
    secret = make_secret()
    sealed = box.seal(decode_secret(secret), make_owner(tenant_id, endpoint_id))
    row = await conn.fetchrow(
        sql.endpoint_secret_rotate, tenant_id, live, endpoint_id, sealed, SECRET_OVERLAP_S
    )
    return None if row is None else RotatedSecret(secret=secret, **row)


def encode_endpoint_patch(patch: EndpointPatch, box: SecretBox, owner: str) -> dict[str, Any]:
    """A patch under column names, as JSON has them; headers sealed."""
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
        sealed = box.seal(msgspec.json.encode(patch.headers), owner) if names else None
        columns["headers"] = None if sealed is None else f"\\x{sealed.hex()}"
        columns["header_names"] = names
    return columns


def find_skip_before(resume: str | UnsetType) -> datetime | None:
    """From when on what waits is wanted; None: all of it."""
    if resume is UNSET or resume == "replay":
        return None
    return _ALL_THAT_WAITS if resume == "skip" else parse_moment(str(resume))
