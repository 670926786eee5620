"""The parameters of an operation: parts of its path, fields of its query, headers."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec

from service.docs.openapi.examples.calls import find_call
from service.docs.openapi.schemas import TEMPLATE, make_plain
from service.errors import PreconditionFailed
from service.http.operations import IDEMPOTENT_METHODS, Operation

Json = dict[str, Any]
_NOUNS = {
    "leads": "lead",
    "api-keys": "API key",
    "webhooks": "webhook",
    "deliveries": "delivery",
    "replays": "replay",
}
_REQUEST_HEADERS: Json = {
    "Idempotency-Key": {
        "description": "Requests with the same key within a day take effect once: the first "
        "response below 500 is sent again, byte for byte.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    },
    "If-Match": {
        "description": "The response is 412 if a client has changed the lead since each of these "
        "ETags. A new score does not count.",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "description": "The response is 304 if the lead still has one of these ETags.",
        "schema": {"type": "string"},
    },
}


def list_parameters(operation: Operation, schemas: Json) -> list[Json]:
    """All parameters; schemas of their types are added to `schemas`."""
    return [
        *_list_path_parameters(operation),
        *_list_query_parameters(operation, schemas),
        *_list_header_parameters(operation),
    ]


def _list_path_parameters(operation: Operation) -> Iterator[Json]:
    ids = find_call(operation).ids
    parts = operation.path.split("/")
    for before, part in pairwise(parts):
        if part.startswith("{"):
            yield {
                "name": part[1:-1],
                "in": "path",
                "description": f"The id of the {_NOUNS[before]}.",
                "required": True,
                "schema": {"type": "string"},
                "example": ids[part[1:-1]],
            }


def _list_query_parameters(operation: Operation, schemas: Json) -> Iterator[Json]:
    """The fields of the query struct; a dict field is sent as `name[key]=value`."""
    (root,), found = msgspec.json.schema_components([operation.query], ref_template=TEMPLATE)
    own = found.pop(root["$ref"].rpartition("/")[2])
    schemas.update(found)
    examples = find_call(operation).query
    for name, schema in own["properties"].items():
        parameter: Json = {"name": name, "in": "query", "required": name in own.get("required", ())}
        shown = _without_null(schema)
        make_plain(shown)
        if description := shown.pop("description", None):
            parameter["description"] = description
        if shown.get("type") == "object":
            parameter |= {"style": "deepObject", "explode": True}
        parameter["schema"] = shown
        yield parameter | ({"example": examples[name]} if name in examples else {})


def _list_header_parameters(operation: Operation) -> Iterator[Json]:
    for name in find_request_headers(operation):
        yield {"name": name, "in": "header", "required": False} | _REQUEST_HEADERS[name]


def find_request_headers(operation: Operation) -> list[str]:
    """The request headers of an operation, without those that every operation accepts."""
    names = ["Idempotency-Key"] if operation.method in IDEMPOTENT_METHODS else []
    if PreconditionFailed in operation.errors:
        names.append("If-Match")
    if operation.has_etag and operation.method == "GET":
        names.append("If-None-Match")
    return names


def _without_null(schema: Json) -> Json:
    """Remove null from a schema: a query string leaves out the parameter instead."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if rest.get("default", ...) in (None, {}):
        del rest["default"]
    if len(choices) == 1:
        rest.update(choices[0])
    elif choices:
        rest["anyOf"] = choices
    return rest
