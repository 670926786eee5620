"""Bounds on the size, depth and characters of input values.

They are checked before the entries of a value, so that an invalid value is cheap.
"""

from functools import cache
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import Meta

from service.errors import Fault
from service.validation.messages import make_length_fault

MAX_DEPTH = 100
MAX_BYTES = "max_bytes"
"""Key in the `extra` of a type's Meta: the largest size of a value as JSON."""
_NESTED = (list, dict)


def find_size_fault(path: str, value: Any, kind: Any) -> Fault | None:
    """Find the fault of a list or dict that is larger than its type allows; ignore its entries."""
    if not isinstance(value, list | dict):
        return None
    most_entries, most_bytes = _find_bounds(kind, type(value))
    if most_entries is not None and len(value) > most_entries:
        return make_length_fault(path, type(value), most_entries)
    if most_bytes is not None:
        try:
            size = len(msgspec.json.encode(value))
        except RecursionError:
            return Fault(path, "too_deep", f"{path} is nested deeper than {MAX_DEPTH} levels.")
        if size > most_bytes:
            message = f"{path} takes {size} bytes as JSON; {most_bytes} are allowed."
            return Fault(path, "too_long", message)
    return None


@cache
def _find_bounds(kind: Any, of: type) -> tuple[int | None, int | None]:
    """The largest number of entries, and of bytes as JSON, by the Meta of the type."""
    if get_origin(kind) is Annotated and get_origin(get_args(kind)[0]) is of:
        metas = [meta for meta in get_args(kind)[1:] if isinstance(meta, Meta)]
        lengths = [meta.max_length for meta in metas if meta.max_length is not None]
        sizes = [meta.extra[MAX_BYTES] for meta in metas if meta.extra and MAX_BYTES in meta.extra]
        return min(lengths, default=None), min(sizes, default=None)
    for part in get_args(kind):
        if get_origin(kind) is not of and (found := _find_bounds(part, of)) != (None, None):
            return found
    return None, None


def contains_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(contains_nul(k) or contains_nul(v) for k, v in value.items())
    return isinstance(value, list) and any(contains_nul(item) for item in value)


def depth_exceeds(value: Any, limit: int) -> bool:
    """Whether lists and dicts are nested deeper than `limit`; five times faster than recursion."""
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(limit):
        entries = [node.values() if isinstance(node, dict) else node for node in level]
        level = [part for each in entries for part in each if isinstance(part, _NESTED)]
        if not level:
            return False
    return True
