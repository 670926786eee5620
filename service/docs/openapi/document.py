"""The OpenAPI 3.1 document, made from the route table and the types of its bodies and queries.

The route table is the source of paths, types and scopes. The other modules of this package add
what it does not contain: headers, errors, descriptions of fields, examples, requests of webhooks.
"""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from service.docs.openapi.event_requests import make_header_parameters, make_webhooks
from service.docs.openapi.examples.calls import find_call
from service.docs.openapi.parameters import list_parameters
from service.docs.openapi.responses import (
    HEADERS,
    list_responses,
    make_content,
    make_error_responses,
)
from service.docs.openapi.schemas import make_schemas
from service.http.operations import Operation

Json = dict[str, Any]
PREFIX = "/v1"
DESCRIPTION = (
    "Leads that AI sales agents capture: create, enrich, list and search them.\n\n"
    "Every path under `/v1` is available under `/api/v1` too. Bodies are JSON in UTF-8. Times "
    "are ISO 8601 in UTC with milliseconds; a time that you send without a zone is UTC. No string "
    "may contain U+0000. An unknown field or query parameter is an error, so that a typing error "
    "is noticed.\n\n"
    "The lists of API keys and of webhooks have no pages: a tenant has at most 1,000 of each in "
    "each mode, which is up to 1.5 MB of keys and, with the longest URLs, 5 MB of webhooks.\n\n"
    "A live key reads and writes live data only, a test key test data only."
)
_TAGS = {"api-keys": "API keys"}


def make_document(api: Iterable[Operation], service: Iterable[Operation], doc_url: str) -> Json:
    """The document. The paths of `api` are under /v1, those of `service` at the root."""
    api, service = list(api), list(service)
    schemas = make_schemas([*api, *service])
    paths: Json = {}
    for operation in api:
        entry = paths.setdefault(PREFIX + operation.path, {})
        described = _describe(operation, _find_tag(operation.path), schemas, doc_url)
        entry[operation.method.lower()] = described
    for operation in service:
        entry = paths.setdefault(operation.path, {"servers": [{"url": "/"}]})
        entry[operation.method.lower()] = _describe(operation, "Service", schemas, doc_url)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Leadlog",
            "version": find_version(),
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [
            {"url": "/"},
            {"url": "/api", "description": "The same API under its longer prefix"},
        ],
        "paths": paths,
        "webhooks": make_webhooks(),
        "components": {
            "schemas": schemas,
            "responses": make_error_responses([*api, *service], doc_url),
            "parameters": make_header_parameters(),
            "headers": HEADERS,
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
    """The version of the installed package."""
    try:
        return version("leadlog")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"


def _describe(operation: Operation, tag: str, schemas: Json, doc_url: str) -> Json:
    described: Json = {
        "operationId": operation.handler.__name__,
        "summary": operation.summary,
        "tags": [tag],
        "security": [],
    }
    if operation.scope is not None:
        end = "." if operation.scope == "admin" else " or higher."
        described["description"] = f"Needs a key of scope `{operation.scope}`{end}"
        described["security"] = [{"apiKey": []}]
    if parameters := list_parameters(operation, schemas):
        described["parameters"] = parameters
    if operation.body is not None:
        required = not getattr(operation.body, "may_be_absent", False)
        content = make_content(operation.body, find_call(operation).body)
        described["requestBody"] = {"required": required, "content": content}
    described["responses"] = dict(list_responses(operation, doc_url))
    return described


def _find_tag(path: str) -> str:
    first = path.split("/")[1]
    return _TAGS.get(first, first.capitalize())
