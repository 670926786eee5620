"""Describes a JSON schema in a few words: `string, 1 to 254 characters`."""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_PLAIN = {"date-time": "ISO 8601 date or time", "email": "e-mail address"}


def describe_schema(schema: Json) -> str:
    """The type, choices, bounds and default in words."""
    if "anyOf" in schema:
        words = " or ".join(describe_schema(choice) for choice in schema["anyOf"])
    elif "$ref" in schema:
        words = str(schema["$ref"].rpartition("/")[2])
    elif "enum" in schema:
        words = "one of " + ", ".join(map(str, schema["enum"]))
    else:
        words = ", ".join([_name_type(schema), *_list_bounds(schema)])
    default = schema.get("default")
    if default in (None, [], {}):
        return words
    return f"{words}; {default} if absent"


def _name_type(schema: Json) -> str:
    kind = str(schema.get("type", "any JSON value"))
    if kind == "array":
        return f"list of {describe_schema(schema.get('items', {}))}"
    return str(_PLAIN.get(schema.get("format", ""), schema.get("format", kind)))


def _list_bounds(schema: Json) -> Iterator[str]:
    units = {"Length": "characters", "Items": "entries", "Properties": "keys", "imum": ""}
    for suffix, unit in units.items():
        low, high = schema.get("min" + suffix), schema.get("max" + suffix)
        if low is not None and high is not None:
            yield f"{low} to {high} {unit}".strip()
        elif high is not None:
            yield f"at most {high} {unit}".strip()
        elif low is not None:
            yield f"at least {low} {unit}".strip()
