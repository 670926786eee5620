"""An example of each error of each operation; a test compares each with the service's response."""

from collections.abc import Callable, Mapping

import msgspec

from service.access.api_keys import already_rotated
from service.access.authentication import NO_KEY, refuse_scope
from service.docs.openapi.examples.call import KEY_ID, LEAD_ID, REPLAY_ID, WEBHOOK_ID, Call
from service.docs.openapi.examples.leads import EMAIL
from service.errors import (
    Conflict,
    Fault,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    Problem,
    RateLimited,
    Unauthorized,
    Unavailable,
    Unprocessable,
    UnsupportedMediaType,
)
from service.http.operations import Operation
from service.idempotency_keys import KeyInUse, KeyReused
from service.leads.results import no_lead, version_changed
from service.validation.decoding import decode_body, decode_query
from service.webhooks.endpoints import endpoint_not_found

OTHER_EMAIL, OTHER_LEAD_ID = "oskar.lind@nordvik.example.com", "lead_01K8Z7V9B2D4F6H8K0M2P4R6T8"
UNKNOWN_PARAMETER = {"verbose": "1"}
MALFORMED: Mapping[str, Call] = {
    "capture_lead": Call(body={"name": "Inês Duarte", "status": "open"}),
    "update_lead": Call(body={"email": None, "score": 80}),
    "list_leads": Call(query={"limit": "500"}),
    "search_leads": Call(),
    "list_events": Call(query={"types": "lead.born"}),
    "create_api_key": Call(body={"name": "website form", "scope": "owner"}),
    "rotate_api_key": Call(body={"graceSeconds": -1}),
    "create_webhook": Call(body={"url": "https://crm.nordvik.example.com/hooks/leads"}),
    "update_webhook": Call(body={"rateLimit": 0}),
    "test_webhook": Call(body={"type": "lead.lost"}),
    "list_webhook_deliveries": Call(query={"state": "lost"}),
    "start_webhook_replay": Call(body={"since": "yesterday"}),
}
"""A request that is 400, for each operation with a query or a body."""
IMPOSSIBLE: Mapping[str, Call] = {
    "capture_lead": Call(body={"email": "ines.duarte@nordvik"}),
    "update_lead": Call(body={"phone": "ask Oskar"}),
    "list_leads": Call(query={"createdAfter": "2026-10-01", "createdBefore": "2026-09-01"}),
    "create_webhook": Call(
        body={"url": "https://me:pw@crm.example.com", "events": ["lead.created"]}
    ),
    "update_webhook": Call(body={"url": "https://crm.example.com/#leads"}),
    "start_webhook_replay": Call(body={"since": "2026-10-14", "until": "2026-10-13"}),
}
"""A request that is 422, where the struct of the query or body can tell."""
EXPIRED_KEY = Call(body={"name": "website form", "scope": "write", "expiresAt": "2025-12-31"})
_PAST_EXPIRY = "expiresAt must be in the future."
_FIXED: Mapping[type[Problem], str] = {
    Unauthorized: NO_KEY,
    PayloadTooLarge: "The body may have 262144 bytes; this one has 300000.",
    UnsupportedMediaType: "Send the body as Content-Type: application/json in UTF-8.",
    RateLimited: "This key may make 600 requests per minute; the next minute begins in 21 s.",
    Unavailable: "The database cannot be reached right now; try again shortly.",
}
"""The messages of errors that are the same for all operations."""


def _make_email_conflict(email: str, lead_id: str) -> Conflict:
    message = f"A lead with the e-mail address {email} already exists."
    return Conflict(message, existing_lead_id=lead_id)


_CONFLICTS: Mapping[str, tuple[Problem, str]] = {
    "capture_lead": (
        _make_email_conflict(EMAIL, LEAD_ID),
        "Another lead has this e-mail address; `existingLeadId` is its id.",
    ),
    "update_lead": (
        _make_email_conflict(OTHER_EMAIL, OTHER_LEAD_ID),
        "Another lead has this e-mail address; `existingLeadId` is its id.",
    ),
    "rotate_api_key": (
        already_rotated("2026-10-14T14:00:00.000Z"),
        "Another key has replaced this one.",
    ),
    "rotate_webhook_secret": (
        Conflict(
            "10 secrets of this webhook sign at present, which is the limit. "
            "The first of them expires at 2026-10-15T14:00:00.000Z: rotate again then."
        ),
        "Ten secrets sign at present, which is the limit.",
    ),
    "test_webhook": (
        Conflict("This webhook is paused; make it active to test it."),
        "The webhook is not active.",
    ),
    "resend_webhook_delivery": (
        Conflict("The event of this delivery is no longer kept."),
        "The event of the delivery is no longer kept.",
    ),
    "start_webhook_replay": (
        Conflict(
            f"The replay {REPLAY_ID} of this webhook is running; wait until it is done, "
            "or cancel it."
        ),
        "Another replay of this webhook is running.",
    ),
    "cancel_webhook_replay": (
        Conflict("This replay has ended already: it is cancelled."),
        "The replay has ended already.",
    ),
}
_IN_PROGRESS = "A request with the same `Idempotency-Key` is still in progress."
_NOT_FOUND = {
    "leads": (no_lead(LEAD_ID), "There is no lead with this id."),
    "api-keys": (
        NotFound(f"There is no working key with the id {KEY_ID}."),
        "There is no API key with this id, or it was revoked or has expired.",
    ),
    "webhooks": (endpoint_not_found(WEBHOOK_ID), "There is no webhook with this id."),
    "deliveries": (
        NotFound("This webhook has no such delivery."),
        "The webhook has no delivery with this id.",
    ),
    "replays": (
        NotFound("This webhook has no such replay."),
        "The webhook has no replay with this id.",
    ),
}
"""The 404 by the noun in the path that stands before the id."""
_METRICS: Mapping[type[Problem], tuple[Problem, str]] = {
    Unauthorized: (
        Unauthorized("Metrics need the header Authorization: Bearer <METRICS_TOKEN>."),
        "`METRICS_TOKEN` is set, and the request does not have it.",
    ),
    NotFound: (
        NotFound("Metrics are served on METRICS_PORT."),
        "Metrics are served on `METRICS_PORT` instead.",
    ),
}


class Refusal(msgspec.Struct, frozen=True):
    """An error of an operation; without a description, the general one is right."""

    problem: Problem
    description: str | None = None
    is_general: bool = False
    """Whether the problem is the same for all operations."""


def make_refusal(operation: Operation, kind: type[Problem]) -> Refusal:
    """Make the example of an error of an operation."""
    if operation.handler.__name__ == "report_metrics" and kind in _METRICS:
        return Refusal(*_METRICS[kind])
    if kind in _FIXED:
        return Refusal(kind(_FIXED[kind]), is_general=True)
    return _BY_KIND[kind](operation)


def find_malformed(operation: Operation) -> Call:
    """A request to the operation that is 400."""
    return MALFORMED.get(operation.handler.__name__, Call(query=UNKNOWN_PARAMETER))


def _refuse(operation: Operation, call: Call) -> Problem:
    """The problem that the service finds in a query or body."""
    try:
        if call.body is not None:
            decode_body(msgspec.json.encode(call.body), operation.body)
        else:
            decode_query(list(call.query.items()), operation.query)
    except Problem as problem:
        return problem
    raise ValueError(f"{operation.route} does not refuse {call}")


def _make_malformed(operation: Operation) -> Refusal:
    return Refusal(_refuse(operation, find_malformed(operation)))


def _make_impossible(operation: Operation) -> Refusal:
    name = operation.handler.__name__
    if name == "create_api_key":
        fault = Fault("expiresAt", "impossible_time", _PAST_EXPIRY)
        return Refusal(Unprocessable(_PAST_EXPIRY, details=[fault]))
    if name in IMPOSSIBLE:
        return Refusal(_refuse(operation, IMPOSSIBLE[name]))
    return Refusal(KeyReused())


def _make_forbidden(operation: Operation) -> Refusal:
    if operation.scope is None or operation.scope == "read":
        raise ValueError(f"{operation.route} needs no more than a key that may read")
    problem = refuse_scope(operation.scope, "write" if operation.scope == "admin" else "read")
    return Refusal(problem, f"The key's scope is below `{operation.scope}`.")


def _make_not_found(operation: Operation) -> Refusal:
    noun = next(part for part in reversed(operation.path.split("/")) if part in _NOT_FOUND)
    if "{" not in operation.path.split(noun)[1]:  # a list or an action of the webhook
        noun = "webhooks"
    return Refusal(*_NOT_FOUND[noun])


def _make_conflict(operation: Operation) -> Refusal:
    name = operation.handler.__name__
    if name not in _CONFLICTS:
        return Refusal(KeyInUse(), _IN_PROGRESS)
    problem, text = _CONFLICTS[name]
    if operation.is_idempotent:
        text += " Or a request with the same `Idempotency-Key` is still in progress."
    return Refusal(problem, text)


_BY_KIND: Mapping[type[Problem], Callable[[Operation], Refusal]] = {
    InvalidRequest: _make_malformed,
    Forbidden: _make_forbidden,
    NotFound: _make_not_found,
    Conflict: _make_conflict,
    PreconditionFailed: lambda _: Refusal(version_changed()),
    Unprocessable: _make_impossible,
}
