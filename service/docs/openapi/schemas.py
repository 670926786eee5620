"""The schemas of bodies: msgspec makes them of the structs, and descriptions are added.

They are kept plain for generators of clients: an optional field has no `default`, since some
generators require fields that have one; an enum has its type; an object of any fields says so.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from service.docs.openapi.descriptions import SCHEMAS
from service.errors import ErrorBody, ErrorResponse, Fault
from service.http.operations import Operation
from service.webhooks.event_models import ThinEvent

Json = dict[str, Any]
TEMPLATE = "#/components/schemas/{name}"
EVENT = "Event"
_EVENT_DESCRIPTION = "An event of any type; `type` tells them apart."


def make_schemas(operations: Iterable[Operation]) -> Json:
    """The schemas of all bodies, by name, and of the types that they are made of."""
    types: set[Any] = {ErrorResponse, ErrorBody, Fault, ThinEvent}
    for operation in operations:
        types |= {operation.body, operation.reply, *operation.also.values()} - {None}
    ordered = sorted(types, key=lambda body_type: str(body_type.__name__))
    schemas: Json
    _, schemas = msgspec.json.schema_components(ordered, ref_template=TEMPLATE)
    for name, schema in schemas.items():
        make_plain(schema)
        _describe(schema, SCHEMAS[name])
    schemas[EVENT] = _name_event(schemas)
    return schemas


def refer(name: str) -> Json:
    """The reference to a schema."""
    return {"$ref": TEMPLATE.format(name=name)}


def make_plain(schema: Json) -> None:
    """Add what msgspec leaves out, in a schema and all schemas within it."""
    if "enum" in schema:
        schema.setdefault("type", "string")
    if schema.get("type") == "object" and "properties" not in schema:
        schema["additionalProperties"] = schema.get("additionalProperties") or True
    if schema.get("required") == []:
        del schema["required"]
    for part in _list_parts(schema):
        make_plain(part)


def _list_parts(schema: Json) -> Iterator[Json]:
    """The schemas of fields, of entries and of choices."""
    yield from schema.get("properties", {}).values()
    for name in ("anyOf", "oneOf"):
        yield from schema.get(name, ())
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield schema[name]


def _name_event(schemas: Json) -> Json:
    """Give the union of events a name, and refer to it by that name."""
    entries = schemas["EventPage"]["properties"]["data"]
    union, entries["items"] = entries["items"], refer(EVENT)
    return {
        "title": EVENT,
        "description": _EVENT_DESCRIPTION,
        "oneOf": union["anyOf"],
        "discriminator": union["discriminator"],
    }


def _describe(schema: Json, texts: Mapping[str, str]) -> None:
    """Add the descriptions of fields; a default becomes a sentence."""
    schema["description"] = " ".join(schema["description"].split())
    for name, part in schema.get("properties", {}).items():
        part["description"] = texts[name]
        default = part.pop("default", None)
        if default not in (None, [], {}):
            shown = msgspec.json.encode(default).decode().strip('"')
            part["description"] += f" Default: `{shown}`."
