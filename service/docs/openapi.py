"""The OpenAPI 3.1 document, made from the route table and the types of bodies, queries and replies.

What the table says is not said again here; what it cannot say (which errors a kind of route has,
what a status means) stands in the tables below.
"""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from service.docs.examples import EXAMPLES
from service.errors import (
    Conflict,
    ErrorBody,
    ErrorReply,
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
from service.http.call import Operation
from service.http.idempotency import METHODS

Json = dict[str, Any]
PREFIX = "/v1"
DESCRIPTION = (
    "Leads that AI sales agents capture: create, enrich, list and search them.\n\n"
    "Every path under `/v1` answers under `/api/v1` too. JSON in and out, UTF-8. Times are "
    "ISO 8601 in UTC with milliseconds. No string may hold U+0000. An unknown field or query "
    "parameter is refused, so that a typing error is not taken for consent.\n\n"
    "A key of live mode sees live data only, one of test mode test data only."
)
MEANINGS: dict[type[Problem], str] = {
    InvalidRequest: "The request is malformed; `details` lists every fault.",
    Unauthorized: "No API key, or one that is unknown, revoked or expired.",
    Forbidden: "The key's scope is too small.",
    NotFound: "There is nothing with this id, or it is not yours.",
    Conflict: "It clashes with what is there; `existingLeadId` names a lead that has the e-mail. "
    "Or a request with the same `Idempotency-Key` is still at work.",
    PreconditionFailed: "The lead is not at a version that `If-Match` names.",
    PayloadTooLarge: "The body is too large.",
    UnsupportedMediaType: "The body is not declared as JSON in UTF-8.",
    Unprocessable: "Well-formed but impossible; `details` says why.",
    RateLimited: "More than the plan of this key allows; try again after `Retry-After` seconds.",
    Unavailable: "The database is away or overloaded; try again after `Retry-After` seconds.",
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
_HEADERS: Json = {
    "X-Request-Id": {
        "description": "Names this exchange in the logs; the caller's own if it sent one.",
        "schema": {"type": "string"},
        "required": True,
    },
    "Location": {
        "description": "Where the new thing is.",
        "schema": {"type": "string"},
        "required": True,
    },
    "Retry-After": {
        "description": "Seconds to wait.",
        "schema": {"type": "integer", "minimum": 0},
        "required": True,
    },
    "X-RateLimit-Limit": {
        "description": "The limit of the key's plan that is nearest; absent without a plan.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "X-RateLimit-Remaining": {
        "description": "How many more requests it lets through.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-RateLimit-Reset": {
        "description": "When it begins anew, in Unix seconds.",
        "schema": {"type": "integer"},
    },
    "X-RateLimit-RetryAfter": {
        "description": "As `Retry-After`.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "ETag": {
        "description": "The lead's version, for `If-Match` and `If-None-Match`.",
        "schema": {"type": "string"},
        "required": True,
    },
    "Idempotency-Replayed": {
        "description": "`true` where the answer was kept under this `Idempotency-Key`.",
        "schema": {"type": "string", "const": "true"},
    },
    "WWW-Authenticate": {
        "description": "`Bearer`.",
        "schema": {"type": "string"},
        "required": True,
    },
}
_TAGS = {"api-keys": "API keys"}
_REQUEST_HEADERS: Json = {
    "Idempotency-Key": {
        "description": "Repeated under the same key within a day, the request is done once: its "
        "first answer below 500 is sent again, byte for byte.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    },
    "If-Match": {
        "description": "Only if the lead still has one of these ETags; else 412.",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "description": "304 if the lead still has one of these ETags.",
        "schema": {"type": "string"},
    },
}


def make_document(api: Iterable[Operation], service: Iterable[Operation], doc_url: str) -> Json:
    """The document; `api` lies under /v1, `service` at the root."""
    api, service = list(api), list(service)
    schemas = _make_schemas([*api, *service])
    paths: Json = {}
    for operation in api:
        entry = paths.setdefault(PREFIX + operation.path, {})
        entry[operation.method.lower()] = _describe(operation, _find_tag(operation.path), schemas)
    for operation in service:
        entry = paths.setdefault(operation.path, {"servers": [{"url": "/"}]})
        entry[operation.method.lower()] = _describe(operation, "Service", schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Leadlog", "version": find_version(), "description": DESCRIPTION},
        "servers": [
            {"url": "/"},
            {"url": "/api", "description": "The same API under its longer prefix"},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": dict(_make_error_responses(doc_url)),
            "headers": _HEADERS,
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key: `sk_live_…` or `sk_test_…`.",
                }
            },
        },
    }


def find_version() -> str:
    """Of the installed package."""
    try:
        return version("leadlog")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"


def _make_schemas(operations: list[Operation]) -> Json:
    kinds = {ErrorReply, ErrorBody, Fault}
    for operation in operations:
        kinds |= {kind for kind in (operation.body, operation.reply) if kind is not None}
        kinds |= set(operation.also.values())
    ordered = sorted(kinds, key=lambda kind: str(kind.__name__))
    _, schemas = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    for kind in ordered:
        if kind in EXAMPLES:
            schemas[kind.__name__]["examples"] = [EXAMPLES[kind]]
    return schemas


def _describe(operation: Operation, tag: str, schemas: Json) -> Json:
    found: Json = {
        "operationId": operation.handler.__name__,
        "summary": operation.summary,
        "tags": [tag],
        "security": [],
    }
    if operation.scope is not None:
        needed = f"Needs a key of scope `{operation.scope}`"
        found["description"] = needed + ("." if operation.scope == "admin" else " or more.")
        found["security"] = [{"apiKey": []}]
    parameters = [
        *_list_path_parameters(operation),
        *_list_query_parameters(operation, schemas),
        *_list_header_parameters(operation),
    ]
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": _json_of(operation.body)}
    found["responses"] = dict(_list_responses(operation))
    return found


def _list_path_parameters(operation: Operation) -> Iterator[Json]:
    for part in operation.path.split("/"):
        if part.startswith("{"):
            yield {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}


def _list_query_parameters(operation: Operation, schemas: Json) -> Iterator[Json]:
    """The fields of the query struct; a dict field is written `name[key]=value`."""
    (root,), found = msgspec.json.schema_components(
        [operation.query], ref_template="#/components/schemas/{name}"
    )
    own = found.pop(root["$ref"].rpartition("/")[2])
    schemas.update(found)
    for name, schema in own["properties"].items():
        parameter: Json = {"name": name, "in": "query", "required": name in own.get("required", ())}
        shown = _without_null(schema)
        if description := shown.pop("description", None):
            parameter["description"] = description
        if shown.get("type") == "object":
            parameter |= {"style": "deepObject", "explode": True}
        yield parameter | {"schema": shown}


def _list_header_parameters(operation: Operation) -> Iterator[Json]:
    for name in find_request_headers(operation):
        yield {"name": name, "in": "header", "required": False} | _REQUEST_HEADERS[name]


def find_request_headers(operation: Operation) -> list[str]:
    """The headers that this operation minds, beside those of every request."""
    names = ["Idempotency-Key"] if operation.method in METHODS else []
    if PreconditionFailed in operation.errors:
        names.append("If-Match")
    if operation.has_etag and operation.method == "GET":
        names.append("If-None-Match")
    return names


def _without_null(schema: Json) -> Json:
    """A query string cannot say null: absent is what it has instead."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if rest.get("default", ...) is None:
        del rest["default"]
    if len(choices) == 1:
        rest.update(choices[0])
    elif choices:
        rest["anyOf"] = choices
    return rest


def _list_responses(operation: Operation) -> Iterator[tuple[str, Json]]:
    headers = ["X-Request-Id"]
    headers += ["Location"] if operation.status == HTTPStatus.CREATED else []
    headers += ["ETag"] if operation.has_etag else []
    headers += _LIMIT_HEADERS if operation.scope is not None else ()
    headers += ["Idempotency-Replayed"] if operation.method in METHODS else []
    answer: Json = {"description": _name_success(operation), "headers": _refer_headers(headers)}
    if operation.reply is not None:
        answer["content"] = _json_of(operation.reply)
    elif operation.media_type is not None:
        kind = "object" if operation.media_type == "application/json" else "string"
        answer["content"] = {operation.media_type: {"schema": {"type": kind}}}
    yield str(operation.status), answer
    if "If-None-Match" in find_request_headers(operation):
        shown = _refer_headers(["X-Request-Id", "ETag"])
        yield "304", {"description": "Not changed.", "headers": shown}
    for status, kind in operation.also.items():
        yield str(status), answer | {"description": "Not now.", "content": _json_of(kind)}
    for problem in _find_problems(operation):
        yield str(problem.status), {"$ref": f"#/components/responses/{problem.__name__}"}


def _name_success(operation: Operation) -> str:
    return {201: "Created.", 202: "Accepted.", 204: "Done."}.get(operation.status, "Found.")


def _find_problems(operation: Operation) -> list[type[Problem]]:
    """What can go wrong with such a route, by status: what its parts bring, what its line adds."""
    found: set[type[Problem]] = {InvalidRequest, *operation.errors}
    if operation.scope is not None:
        found |= {Unauthorized, RateLimited, Unavailable}
        if operation.scope != "read":  # every key may read
            found.add(Forbidden)
    if "{id}" in operation.path:
        found.add(NotFound)
    if operation.method in METHODS:  # by Idempotency-Key
        found |= {Conflict, Unprocessable}
    if operation.body is not None:
        found |= {PayloadTooLarge, UnsupportedMediaType}
    return sorted(found, key=lambda problem: problem.status)


def _make_error_responses(doc_url: str) -> Iterator[tuple[str, Json]]:
    for problem, meaning in MEANINGS.items():
        details, existing_lead_id = _EXTRAS.get(problem, (None, None))
        message = details[0].message if details else meaning.partition(";")[0].rstrip(".") + "."
        body = ErrorBody(problem.code, message, details, existing_lead_id, doc_url)
        yield (
            problem.__name__,
            {
                "description": meaning,
                "headers": _refer_headers(["X-Request-Id", *_RESPONSE_HEADERS.get(problem, ())]),
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/ErrorReply"},
                        "example": msgspec.to_builtins(ErrorReply(body)),
                    }
                },
            },
        )


def _json_of(kind: Any) -> Json:
    content: Json = {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}
    if kind in EXAMPLES:
        content["example"] = EXAMPLES[kind]
    return {"application/json": content}


def _refer_headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _find_tag(path: str) -> str:
    first = path.split("/")[1]
    return _TAGS.get(first, first.capitalize())
