"""The reference: what its pages show of each operation of the OpenAPI document."""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import msgspec
from markupsafe import Markup

from service.docs.code_blocks import render_code
from service.docs.curl_commands import find_example, make_curl
from service.docs.markdown import render_inline
from service.docs.schema_words import Field, describe_schema, list_fields, resolve

Json = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")


class Parameter(msgspec.Struct, frozen=True):
    name: str
    place: str
    words: str
    description: Markup


class ShownResponse(msgspec.Struct, frozen=True):
    """A response: its status, meaning, headers, example and fields."""

    status: str
    meaning: Markup
    headers: list[str]
    example: Markup | None
    fields: list[Field]
    code: str | None
    """The code of an error, which the guide to errors explains."""


class OperationPage(msgspec.Struct, frozen=True):
    """An operation; `name` is the last part of its page's path."""

    name: str
    tag: str
    method: str
    path: str
    title: str
    description: list[Markup]
    parameters: list[Parameter]
    body: list[Field]
    body_note: Markup | None
    curl: Markup
    responses: list[ShownResponse]
    words: str
    """The plain text for the search."""


class Group(msgspec.Struct, frozen=True):
    """The operations with one tag; `anchor` is its place in the list of all operations."""

    tag: str
    anchor: str
    operations: list[OperationPage]


def list_groups(document: Json) -> list[Group]:
    """All operations by tag, in the order of the document."""
    pages = [
        _make_page(document, method, path, item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]
    tags = list(dict.fromkeys(page.tag for page in pages))
    ordered = sorted(pages, key=lambda page: tags.index(page.tag))
    return [
        Group(tag, re.sub(r"[^a-z0-9]+", "-", tag.lower()), list(group))
        for tag, group in groupby(ordered, key=lambda page: page.tag)
    ]


def _make_page(document: Json, method: str, path: str, operation: Json) -> OperationPage:
    parameters = [resolve(document, each) for each in operation.get("parameters", ())]
    schema = _find_body_schema(document, operation)
    fields = [] if schema is None else list(list_fields(document, schema))
    note = "" if schema is None else schema.get("description", "")
    described = operation.get("description", "")
    names = [each["name"] for each in parameters] + [field.name for field in fields]
    return OperationPage(
        name=operation["operationId"].replace("_", "-"),
        tag=operation["tags"][0],
        method=method.upper(),
        path=path,
        title=operation["summary"],
        description=[render_inline(part) for part in described.split("\n\n") if part],
        parameters=[_show_parameter(each) for each in parameters],
        body=fields,
        body_note=render_inline(note) if note else None,
        curl=Markup(render_code(make_curl(document, method.upper(), path, operation), "sh")),  # noqa: S704
        responses=[
            _show_response(document, status, resolve(document, response))
            for status, response in operation["responses"].items()
        ],
        words=" ".join([method.upper(), path, described, *names]),
    )


def _find_body_schema(document: Json, operation: Json) -> Json | None:
    body = resolve(document, operation.get("requestBody", {}))
    for content in body.get("content", {}).values():
        return resolve(document, content.get("schema", {}))
    return None


def _show_parameter(parameter: Json) -> Parameter:
    schema = parameter.get("schema", {})
    suffix = "[key]" if parameter.get("style") == "deepObject" else ""
    words = describe_schema(schema) + (", required" if parameter.get("required") else "")
    description = render_inline(parameter.get("description", ""))
    return Parameter(parameter["name"] + suffix, parameter["in"], words, description)


def _show_response(document: Json, status: str, response: Json) -> ShownResponse:
    content: Json = next(iter(response.get("content", {}).values()), {})
    example = find_example(document, content)
    code = None
    if isinstance(example, dict) and isinstance(example.get("error"), dict):
        code = example["error"].get("code")
    return ShownResponse(
        status=status,
        meaning=render_inline(response["description"]),
        headers=list(response.get("headers", {})),
        example=None if example is None else _render_json(example),
        fields=[] if code else list(list_fields(document, content.get("schema", {}))),
        code=code,
    )


def _render_json(value: Any) -> Markup:
    return Markup(render_code(json.dumps(value, ensure_ascii=False, indent=2), "json"))  # noqa: S704


def list_pages(groups: list[Group]) -> Iterator[OperationPage]:
    """All operations, group by group."""
    for group in groups:
        yield from group.operations
