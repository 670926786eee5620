"""The API's description: correct, complete, and readable without a network."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis

from service.app import API, SERVICE
from service.docs.openapi.descriptions import SCHEMAS
from service.docs.openapi.document import find_version
from service.docs.openapi.examples.calls import CALLS
from service.http.operations import Operation
from service.validation.decoding import decode_body
from tests.harness.api_client import Api
from tests.service.docs.guide_code import run

CONFIG = Path(__file__).with_name("schemathesis.toml")
# These operations may revoke the key of the generated requests; test_access.py covers them.
ENDS_KEYS = ("revoke_api_key", "rotate_api_key")


def list_operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "servers":
                yield method.upper(), path, operation


async def test_the_document_is_served_with_the_version_of_the_package(
    api: Api, document: dict[str, Any]
) -> None:
    answer = await api.with_key(None).get("/openapi.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == document
    assert answer.json["openapi"] == "3.1.0"
    assert answer.json["info"]["version"] == find_version()


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()


def test_the_document_has_every_route_of_the_table_and_no_other(document: dict[str, Any]) -> None:
    described = {(method, path) for method, path, _ in list_operations(document)}
    table = {(op.method, f"/v1{op.path}") for op in API} | {(op.method, op.path) for op in SERVICE}
    assert described == table
    names = [operation["operationId"] for _, _, operation in list_operations(document)]
    assert len(set(names)) == len(names)
    assert {op.handler.__name__ for op in (*API, *SERVICE)} == set(names)


def test_a_route_lists_the_errors_that_it_can_have_and_no_other(document: dict[str, Any]) -> None:
    def list_statuses(method: str, path: str) -> str:
        return " ".join(document["paths"][path][method]["responses"])

    assert list_statuses("post", "/v1/leads") == "201 400 401 403 409 413 415 422 429 503"
    assert list_statuses("get", "/v1/leads/{id}") == "200 304 400 401 404 429 503"
    assert list_statuses("patch", "/v1/leads/{id}") == (
        "200 400 401 403 404 409 412 413 415 422 429 503"
    )
    assert list_statuses("delete", "/v1/leads/{id}") == "204 400 401 403 404 412 429 503"
    assert list_statuses("get", "/v1/api-keys") == "200 400 401 403 429 503"
    assert list_statuses("get", "/health/ready") == "200 503 400"


def test_a_route_says_which_scope_its_key_needs(document: dict[str, Any]) -> None:
    for operation in API:
        described = document["paths"][f"/v1{operation.path}"][operation.method.lower()]
        assert f"`{operation.scope}`" in described["description"]
        assert described["security"] == [{"apiKey": []}]
    assert all(document["paths"][op.path]["get"]["security"] == [] for op in SERVICE)


def test_every_reference_has_a_target(document: dict[str, Any]) -> None:
    references = re.findall(r'"\$ref": "#/components/(\w+)/([\w-]+)"', json.dumps(document))
    assert references
    for kind, name in references:
        assert name in document["components"][kind]


@pytest.mark.parametrize("operation", [*API, *SERVICE], ids=lambda op: op.handler.__name__)
def test_every_body_has_an_example_that_is_valid_and_in_order(operation: Operation) -> None:
    call = CALLS[operation.handler.__name__]
    assert (call.body is None, call.reply is None) == (
        operation.body is None,
        operation.reply is None,
    )
    if operation.body is not None:
        decode_body(msgspec.json.encode(call.body), operation.body)
    replies = [(operation.reply, call.reply)] if operation.reply else []
    replies += [(kind, call.also[status]) for status, kind in operation.also.items()]
    for kind, example in replies:
        msgspec.convert(example, kind)
        order = [field.encode_name for field in msgspec.structs.fields(kind)]
        assert [name for name in order if name in example] == list(example)


def test_every_parameter_is_described_and_a_required_one_has_an_example(
    document: dict[str, Any],
) -> None:
    for method, path, operation in list_operations(document):
        for parameter in operation.get("parameters", []):
            at = method, path, parameter["name"]
            assert parameter.get("description"), at
            assert "example" in parameter or not parameter["required"], at
    for parameter in document["components"]["parameters"].values():
        assert {"description", "example"} <= set(parameter)


def test_every_schema_and_every_field_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    missing = [name for name, schema in schemas.items() if not schema.get("description")]
    missing += [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, part in schema.get("properties", {}).items()
        if not part.get("description")
    ]
    assert not missing
    fields = {
        (name, field) for name, schema in schemas.items() for field in schema.get("properties", {})
    }
    assert {(name, field) for name, texts in SCHEMAS.items() for field in texts} <= fields


def test_schemas_are_plain_for_generators(document: dict[str, Any]) -> None:
    """No default, which some take for a required field; no object without a type of its values."""
    for name, part in walk(document["components"]["schemas"]):
        assert "default" not in part, name
        assert "enum" not in part or part["type"] == "string", name
        if part.get("type") == "object" and "properties" not in part:
            assert part["additionalProperties"], name
    custom = document["components"]["schemas"]["NewLead"]["properties"]["customFields"]
    assert custom["additionalProperties"] is True
    assert document["components"]["schemas"]["NewLead"]["required"] == ["email"]


def walk(schema: Any, at: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas below a schema, by their path; an example is none."""
    if isinstance(schema, list):
        for index, part in enumerate(schema):
            yield from walk(part, f"{at}.{index}")
    elif isinstance(schema, dict):
        yield at, {} if at.endswith(".properties") else schema
        for name, part in schema.items():
            yield from walk(part, f"{at}.{name}")


@pytest.mark.timeout(240)  # about 20 s on two idle cores, more on busy cores
async def test_generated_requests_find_no_fault(api: Api, tmp_path: Path) -> None:
    """schemathesis: no 5xx, nothing undocumented, every response matches its schema."""
    excluded = [part for name in ENDS_KEYS for part in ("--exclude-operation-id", name)]
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run",
        f"{api.url}/openapi.json", "--no-color", *excluded,
        "--header", f"Authorization: Bearer {api.tenant.key(live=False)}",
    ]  # fmt: skip
    output = await run(command, tmp_path, {}, patience_s=220)
    tested = re.search(r"Tested: (\d+)", output)
    endless = [op for op in API if op.media_type == "text/event-stream"]
    least = len(API) + len(SERVICE) - len(ENDS_KEYS) - len(endless)
    least -= 1  # schemathesis may leave out the document itself
    assert tested is not None
    assert int(tested[1]) >= least
