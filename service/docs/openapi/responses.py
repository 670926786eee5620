"""The responses of an operation: success, and every error that is possible on its route."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import msgspec

from service.docs.openapi.examples.calls import find_call
from service.docs.openapi.examples.refusals import Refusal, make_refusal
from service.docs.openapi.parameters import find_request_headers
from service.docs.openapi.schemas import refer
from service.errors import (
    Conflict,
    ErrorResponse,
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
    make_error_response,
)
from service.http.operations import Operation

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


def list_responses(operation: Operation, doc_url: str) -> Iterator[tuple[str, Json]]:
    """The responses by status. An error that is the same everywhere refers to the general one."""
    yield str(operation.status), _describe_success(operation)
    if "If-None-Match" in find_request_headers(operation):
        shown = _refer_headers(["X-Request-Id", "ETag"])
        yield "304", {"description": "Not changed.", "headers": shown}
    call = find_call(operation)
    for status, body_type in operation.also.items():
        content = make_content(body_type, call.also[status])
        headers = _refer_headers(["X-Request-Id"])
        yield str(status), {"description": "Not ready.", "headers": headers, "content": content}
    for kind in find_problems(operation):
        refusal = make_refusal(operation, kind)
        if refusal.is_general:
            yield str(kind.status), {"$ref": f"#/components/responses/{kind.__name__}"}
        else:
            yield str(kind.status), _describe_refusal(refusal, doc_url)


def _describe_success(operation: Operation) -> Json:
    headers = ["X-Request-Id"]
    headers += ["Location"] if operation.status == HTTPStatus.CREATED else []
    headers += ["ETag"] if operation.has_etag else []
    headers += ["Leadlog-Tenant"] if operation.names_tenant else []
    headers += _LIMIT_HEADERS if operation.scope is not None else ()
    headers += ["Idempotency-Replayed"] if operation.is_idempotent else []
    success: Json = {"description": _name_success(operation), "headers": _refer_headers(headers)}
    if operation.reply is not None:
        success["content"] = make_content(operation.reply, find_call(operation).reply)
    elif operation.media_type is not None:
        schema: Json = {"type": "string"}
        if operation.media_type == "application/json":
            schema = {"type": "object", "additionalProperties": True}
        success["content"] = {operation.media_type: {"schema": schema}}
    return success


def _name_success(operation: Operation) -> str:
    found = "Found." if operation.method == "GET" else "Done."
    return {201: "Created.", 202: "Accepted."}.get(operation.status, found)


def find_problems(operation: Operation) -> list[type[Problem]]:
    """The errors of a route by status: those of its table entry and those that follow from it."""
    found: set[type[Problem]] = {InvalidRequest, *operation.errors}
    if operation.scope is not None:
        found |= {Unauthorized, RateLimited, Unavailable}
        if operation.scope != "read":  # every key may read
            found.add(Forbidden)
    if "{id}" in operation.path:
        found.add(NotFound)
    if operation.is_idempotent:  # by Idempotency-Key
        found |= {Conflict, Unprocessable}
    if operation.body is not None or operation.refuses_body:
        found |= {PayloadTooLarge, UnsupportedMediaType}
    return sorted(found, key=lambda problem: problem.status)


def make_error_responses(operations: Iterable[Operation], doc_url: str) -> Json:
    """The general form of each error. The first operation that has the error gives the example."""
    examples: dict[type[Problem], Problem] = {}
    for operation in operations:
        for kind in find_problems(operation):
            examples.setdefault(kind, make_refusal(operation, kind).problem)
    return {
        kind.__name__: _describe_refusal(Refusal(examples[kind], meaning), doc_url)
        for kind, meaning in MEANINGS.items()
    }


def _describe_refusal(refusal: Refusal, doc_url: str) -> Json:
    problem = refusal.problem
    kind = next(kind for kind in MEANINGS if isinstance(problem, kind))
    example = msgspec.to_builtins(make_error_response(problem, doc_url))
    return {
        "description": refusal.description or MEANINGS[kind],
        "headers": _refer_headers(["X-Request-Id", *_RESPONSE_HEADERS.get(kind, ())]),
        "content": make_content(ErrorResponse, example),
    }


def make_content(body_type: Any, example: Any) -> Json:
    """Make the `content` of a body in OpenAPI, with its example."""
    content: Json = {"schema": refer(body_type.__name__)}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def _refer_headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
