"""The text of a timeline entry: "Created from api", "status: new → qualified", "score 0 → 34"."""

from typing import Any

import msgspec

MAX_LENGTH = 300
MAX_VALUE_LENGTH = 60
_ARROW = "→"


class _Change(msgspec.Struct):
    old: Any = msgspec.field(name="from", default=None)
    new: Any = msgspec.field(name="to", default=None)


class _Lead(msgspec.Struct, frozen=True):
    source: Any = "an unknown source"


class _Data(msgspec.Struct):
    lead: _Lead = _Lead()
    changes: dict[str, _Change] = {}


_decoder = msgspec.json.Decoder(_Data)


def describe_event(event_type: str, data: str) -> str:
    """The text for an event with this type and data (JSON). Never raises."""
    try:
        decoded = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = _Data()
    text = _describe(event_type, decoded).replace("\0", "")
    return _shorten(text, MAX_LENGTH)


def _describe(event_type: str, data: _Data) -> str:
    if event_type == "lead.created":
        return f"Created from {data.lead.source}"
    if event_type == "lead.updated" and data.changes:
        return "; ".join(_describe_change(name, data.changes[name]) for name in data.changes)
    noun, _, past = event_type.partition(".")
    words = past if noun == "lead" else f"{noun} {past}"
    return words.replace("_", " ").capitalize()


def _describe_change(name: str, change: _Change) -> str:
    old, new = change.old, change.new
    if name == "score":
        return f"score {old} {_ARROW} {new}"
    if isinstance(old, list) and isinstance(new, list):
        parts = [f"+{_show(item)}" for item in new if item not in old]
        parts += [f"-{_show(item)}" for item in old if item not in new]
        return f"{name}: {', '.join(parts) or 'in another order'}"
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if _get(old, key) != _get(new, key)]
        return f"{name}: {', '.join(_shorten(key, MAX_VALUE_LENGTH) for key in keys)}"
    return f"{name}: {_show(old)} {_ARROW} {_show(new)}"


def _get(fields: dict[str, Any], key: str) -> tuple[bool, Any]:
    """The value of a field, and whether it exists: null differs from a missing field."""
    return key in fields, fields.get(key)


def _show(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return _shorten(text, MAX_VALUE_LENGTH)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
