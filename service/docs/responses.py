"""The responses of an operation: success, and every error that is possible on its route."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import msgspec

from service.docs.examples import make_content
from service.docs.parameters import find_request_headers
from service.errors import (
    Conflict,
    ErrorBody,
    ErrorResponse,
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
from service.http.operations import IDEMPOTENT_METHODS, Operation

Json = dict[str, Any]
MEANINGS: dict[type[Problem], str] = {
    InvalidRequest: "The request is malformed; `details` lists up to 50 faults, and `moreFaults` "
    "counts the others.",
    Unauthorized: "No API key, or one that is unknown, revoked or expired.",
    Forbidden: "The key's scope is too small.",
    NotFound: "There is no object with this id, or it belongs to another tenant.",
    Conflict: "The request conflicts with the current state; `existingLeadId` is the lead that has "
    "the e-mail. Or a request with the same `Idempotency-Key` is still in progress.",
    PreconditionFailed: "A client has changed the lead since the version that `If-Match` names.",
    PayloadTooLarge: "The body is too large.",
    UnsupportedMediaType: "The body is not declared as JSON in UTF-8.",
    Unprocessable: "Well-formed but impossible to process; `details` gives the reasons.",
    RateLimited: "A limit of the key's plan is exceeded; try again after `Retry-After` seconds.",
    Unavailable: "The database is down or overloaded; try again after `Retry-After` seconds.",
}
_EXTRAS: dict[type[Problem], tuple[list[Fault] | None, str | None]] = {
    InvalidRequest: ([Fault("limit", "out_of_range", "limit must be at most 100.")], None),
    Unprocessable: ([Fault("email", "invalid_email", "email is not an e-mail address.")], None),
    Conflict: (None, "lead_01K8Z7M2T4V6X8A0C2E4G6J8M0"),
}
_LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_RESPONSE_HEADERS = {
    Unauthorized: ["WWW-Authenticate"],
    RateLimited: ["Retry-After", *_LIMIT_HEADERS, "X-RateLimit-RetryAfter"],
    Unavailable: ["Retry-After"],
}
HEADERS: Json = {
    "X-Request-Id": {
        "description": "The id of the request in the logs; the client's own id if it sent one.",
        "schema": {"type": "string"},
        "required": True,
    },
    "Location": {
        "description": "The path of the created object.",
        "schema": {"type": "string"},
        "required": True,
    },
    "Retry-After": {
        "description": "Seconds to wait.",
        "schema": {"type": "integer", "minimum": 0},
        "required": True,
    },
    "X-RateLimit-Limit": {
        "description": "The limit of the key's plan that is reached first; absent without a plan.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "X-RateLimit-Remaining": {
        "description": "The number of requests left under this limit.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-RateLimit-Reset": {
        "description": "When the limit resets, in Unix seconds.",
        "schema": {"type": "integer"},
    },
    "X-RateLimit-RetryAfter": {
        "description": "As `Retry-After`.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "ETag": {
        "description": "The version of the lead, for `If-Match` and `If-None-Match`. With a new "
        "score it is another ETag, but `If-Match` with the old one still holds.",
        "schema": {"type": "string"},
        "required": True,
    },
    "Leadlog-Tenant": {
        "description": "The number of the key's tenant in the CRM streams.",
        "schema": {"type": "integer", "minimum": 1},
        "required": True,
    },
    "Idempotency-Replayed": {
        "description": "`true` if the response was stored under this `Idempotency-Key`.",
        "schema": {"type": "string", "const": "true"},
    },
    "WWW-Authenticate": {
        "description": "`Bearer`.",
        "schema": {"type": "string"},
        "required": True,
    },
}


def list_responses(operation: Operation) -> Iterator[tuple[str, Json]]:
    headers = ["X-Request-Id"]
    headers += ["Location"] if operation.status == HTTPStatus.CREATED else []
    headers += ["ETag"] if operation.has_etag else []
    headers += ["Leadlog-Tenant"] if operation.names_tenant else []
    headers += _LIMIT_HEADERS if operation.scope is not None else ()
    headers += ["Idempotency-Replayed"] if operation.method in IDEMPOTENT_METHODS else []
    success: Json = {"description": _name_success(operation), "headers": _refer_headers(headers)}
    if operation.reply is not None:
        success["content"] = make_content(operation.reply)
    elif operation.media_type is not None:
        json_type = "object" if operation.media_type == "application/json" else "string"
        success["content"] = {operation.media_type: {"schema": {"type": json_type}}}
    yield str(operation.status), success
    if "If-None-Match" in find_request_headers(operation):
        shown = _refer_headers(["X-Request-Id", "ETag"])
        yield "304", {"description": "Not changed.", "headers": shown}
    for status, body_type in operation.also.items():
        yield (
            str(status),
            success | {"description": "Not ready.", "content": make_content(body_type)},
        )
    for problem in _find_problems(operation):
        yield str(problem.status), {"$ref": f"#/components/responses/{problem.__name__}"}


def _name_success(operation: Operation) -> str:
    return {201: "Created.", 202: "Accepted.", 204: "Done."}.get(operation.status, "Found.")


def _find_problems(operation: Operation) -> list[type[Problem]]:
    """The errors of a route by status: those of its table entry and those that follow from it."""
    found: set[type[Problem]] = {InvalidRequest, *operation.errors}
    if operation.scope is not None:
        found |= {Unauthorized, RateLimited, Unavailable}
        if operation.scope != "read":  # every key may read
            found.add(Forbidden)
    if "{id}" in operation.path:
        found.add(NotFound)
    if operation.method in IDEMPOTENT_METHODS:  # by Idempotency-Key
        found |= {Conflict, Unprocessable}
    if operation.body is not None or operation.refuses_body:
        found |= {PayloadTooLarge, UnsupportedMediaType}
    return sorted(found, key=lambda problem: problem.status)


def make_error_responses(doc_url: str) -> Iterator[tuple[str, Json]]:
    for problem, meaning in MEANINGS.items():
        details, existing_lead_id = _EXTRAS.get(problem, (None, None))
        message = details[0].message if details else meaning.partition(";")[0].rstrip(".") + "."
        body = ErrorBody(
            problem.code, message, details, existing_lead_id=existing_lead_id, doc_url=doc_url
        )
        yield (
            problem.__name__,
            {
                "description": meaning,
                "headers": _refer_headers(["X-Request-Id", *_RESPONSE_HEADERS.get(problem, ())]),
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/ErrorResponse"},
                        "example": msgspec.to_builtins(ErrorResponse(body)),
                    }
                },
            },
        )


def _refer_headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
