"""Describes a JSON schema in a few words: `string, 1 to 254 characters`; and lists its fields."""

from collections.abc import Iterator
from typing import Any

import msgspec

Json = dict[str, Any]
_PLAIN = {"date-time": "ISO 8601 date or time", "email": "e-mail address", "uri": "URL"}
_DEEPEST = 3
"""Levels of nested objects whose fields are listed."""


class Field(msgspec.Struct, frozen=True):
    """A field of a body: its dotted path, its type in words, and its description."""

    name: str
    words: str
    description: str
    is_required: bool


def describe_schema(schema: Json) -> str:
    """The type, choices, bounds and default in words."""
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        words = " or ".join(dict.fromkeys(describe_schema(choice) for choice in choices))
    elif "$ref" in schema:
        words = str(schema["$ref"].rpartition("/")[2])
    elif "enum" in schema:
        words = "one of " + ", ".join(map(str, schema["enum"]))
    elif "const" in schema:
        words = f"always {schema['const']}"
    else:
        words = ", ".join([_name_type(schema), *_list_bounds(schema)])
    default = schema.get("default")
    if default in (None, [], {}):
        return words
    return f"{words}; {default} if absent"


def list_fields(document: Json, schema: Json, prefix: str = "", depth: int = 1) -> Iterator[Field]:
    """The fields of an object and of the objects in it."""
    schema = resolve(document, schema)
    required = schema.get("required", ())
    for name, part in schema.get("properties", {}).items():
        inner, suffix = _find_object(document, part)
        words = describe_schema(part)
        if inner is not None:
            words = "list of objects" if suffix else "object"
            words += " or null" if _may_be_null(part) else ""
        path = f"{prefix}{name}{suffix}"
        yield Field(path, words, part.get("description", ""), name in required)
        if inner is not None and depth < _DEEPEST:
            yield from list_fields(document, inner, f"{path}.", depth + 1)


def resolve(document: Json, part: Json) -> Json:
    """The part of the document to which a `$ref` leads; the part itself if it is none."""
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/").replace("~0", "~")]
        part = found
    return part


def _find_object(document: Json, part: Json) -> tuple[Json | None, str]:
    """The object in a field, and `[]` if the field is a list of such objects."""
    for choice in part.get("anyOf") or part.get("oneOf") or [part]:
        item = resolve(document, choice)
        if item.get("type") == "array":
            item = resolve(document, item.get("items", {}))
            if "properties" in item:
                return item, "[]"
        elif "properties" in item:
            return item, ""
    return None, ""


def _may_be_null(part: Json) -> bool:
    return {"type": "null"} in (part.get("anyOf") or part.get("oneOf") or ())


def _name_type(schema: Json) -> str:
    kind = schema.get("type", "any JSON value")
    if kind == "array":
        return f"list of {describe_schema(schema.get('items', {}))}"
    if isinstance(kind, list):
        kind = " or ".join(kind)
    return str(_PLAIN.get(schema.get("format", ""), schema.get("format", kind)))


def _list_bounds(schema: Json) -> Iterator[str]:
    units = {"Length": "characters", "Items": "entries", "Properties": "keys", "imum": ""}
    for suffix, unit in units.items():
        low, high = (
            f"{bound:,}" if (bound := schema.get(edge + suffix)) is not None else None
            for edge in ("min", "max")
        )
        if low is not None and high is not None:
            yield f"{low} to {high} {unit}".strip()
        elif high is not None:
            yield f"at most {high} {unit}".strip()
        elif low is not None:
            yield f"at least {low} {unit}".strip()
