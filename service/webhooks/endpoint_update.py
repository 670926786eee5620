"""Changes to a webhook endpoint: PATCH, and rotation of its secret."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, UnsetType

import sql
from service.database.connect import Connection
from service.encryption import Encryptor
from service.errors import Conflict, Fault, InvalidRequest
from service.validation.field_types import ApiStruct, Check, Moment, parse_moment
from service.webhooks.endpoint_settings import EndpointSettings, encode_settings
from service.webhooks.secrets import decode_secret, make_secret, make_secret_owner

SECRET_OVERLAP_S = 86400
MAX_SECRETS = 10
"""Secrets that sign at the same time: each makes the header of every request longer."""
_SKIP_ALL = datetime.max.replace(tzinfo=UTC)
"""Skips all waiting deliveries: endpoint_update replaces a time in the future by now()."""
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


class EndpointPatch(EndpointSettings):
    """The body of PATCH /v1/webhooks/{id}: an absent field is kept, null clears an optional one."""

    checks: ClassVar[Mapping[str, Check]] = {**EndpointSettings.checks, "resume": check_resume}
    read_only: ClassVar[frozenset[str]] = EndpointSettings.read_only | {"secret"}

    resume: Resume | UnsetType = UNSET


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
    resumed: bool | None = await conn.fetchval(
        sql.endpoint_update,
        tenant_id,
        live,
        endpoint_id,
        encode_settings(patch, encryptor, make_secret_owner(tenant_id, endpoint_id)),
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


def find_skip_before(resume: str | UnsetType) -> datetime | None:
    """The time before which waiting deliveries are skipped; None: no delivery is skipped."""
    if resume is UNSET or resume == "replay":
        return None
    return _SKIP_ALL if resume == "skip" else parse_moment(str(resume))
