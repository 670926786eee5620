"""Decode bodies and query strings into structs; an invalid one is reported with all its faults.

msgspec stops at the first error. So a valid request is decoded once, and only an invalid one is
checked field by field. Rules that a type cannot express, such as e-mail syntax, are the `checks` of
a struct: pure functions by field that yield faults.

An invalid request must be cheap too: the size of a list or object is checked before its entries,
and faults beyond the first 50 are only counted.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import structs

from service.errors import (
    MOST_LISTED,
    Fault,
    FaultList,
    InvalidRequest,
    Problem,
    Unprocessable,
)
from service.validation.bounds import MAX_DEPTH, contains_nul, depth_exceeds, find_size_fault
from service.validation.field_types import Check
from service.validation.messages import explain, explain_malformed

UNPROCESSABLE = frozenset(
    {
        "blocked_address",
        "impossible_range",
        "impossible_time",
        "invalid_email",
        "invalid_phone",
        "invalid_secret",
        "invalid_url",
    }
)
"""Codes of well-formed but impossible values: the status is 422 if there are no other faults."""
MAX_NAME_LENGTH = 64
"""Characters of an unknown field or parameter name that a message repeats."""
_INTEGER = re.compile(r"-?[0-9]{1,40}")


T = TypeVar("T", bound=msgspec.Struct)


def decode_body(raw: bytes, kind: type[T]) -> T:
    """Decode a JSON body. Raises InvalidRequest or Unprocessable with all its faults."""
    try:
        value = msgspec.json.decode(raw, type=kind)
        suspicious = b"\\u0000" in raw or raw.count(b"[") + raw.count(b"{") > MAX_DEPTH
        if not suspicious and _passes_checks(value):
            return value
    except (msgspec.ValidationError, RecursionError):
        pass
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if getattr(kind, "may_be_absent", False) and not raw.strip():
            return kind()
        raise _malformed(error, raw) from None
    fields = _convert_integers(_decode_object(raw), kind)
    faults = find_faults(fields, kind)
    if faults:
        raise to_problem(faults, "The request body")
    return msgspec.convert(fields, kind)


def decode_query(pairs: list[tuple[str, str]], kind: type[T]) -> T:
    """Decode a query string; `name[key]=value` adds an entry to the dict field `name`.

    Raises InvalidRequest or Unprocessable with all its faults.
    """
    values: dict[str, Any] = {}
    twice = FaultList()
    integers = _find_integers(kind)
    for name, text in pairs:
        base, bracket, rest = name.partition("[")
        if bracket and rest.endswith("]"):
            target, key = values.setdefault(base, {}), rest[:-1]
        else:
            target, key = values, name
        if not isinstance(target, dict) or key in target:
            shown = _printable(name)
            twice.add([Fault(shown, "duplicate", f"{shown} is given more than once.")])
            continue
        target[key] = int(text) if name in integers and _INTEGER.fullmatch(text) else text
    if not twice and not contains_nul(values):
        try:
            value = msgspec.convert(values, kind)
            if _passes_checks(value):
                return value
        except msgspec.ValidationError:
            pass
    faults = find_faults(values, kind, twice)
    if faults:
        raise to_problem(faults, "The query string")
    return msgspec.convert(values, kind)


def find_faults(
    fields: Mapping[str, Any], kind: type[msgspec.Struct], before: FaultList | None = None
) -> FaultList:
    """The faults `before`, those of the known fields of a struct type, and the unknown fields."""
    known = _list_fields(kind)
    checks: Mapping[str, Check] = getattr(kind, "checks", {})
    found = before or FaultList()
    found_before = len(found)
    for name, field in known.items():
        if name in fields:
            found.add(_find_field_faults(name, fields[name], field, checks.get(field.name)))
        elif field.required:
            found.add([Fault(name, "required", f"{name} is required.")])
    if len(found) == found_before and "" in checks:  # a check of the whole relies on valid fields
        found.add(_check_whole(fields, kind, checks[""]))
    _add_unknown_fields(found, fields, known, kind)
    return found


def _add_unknown_fields(
    found: FaultList,
    fields: Mapping[str, Any],
    known: Mapping[str, Any],
    kind: type[msgspec.Struct],
) -> None:
    read_only: frozenset[str] = getattr(kind, "read_only", frozenset())
    unknown = [name for name in fields if name not in known]
    for name in unknown[:MOST_LISTED]:
        shown = _printable(name)
        if name in read_only:
            message = f"{shown} is set by the service and cannot be written."
            found.add([Fault(shown, "read_only", message)])
        else:
            found.add([Fault(shown, "unknown_field", f"{shown} is not known here.")])
    found.count("unknown_field", max(0, len(unknown) - MOST_LISTED))


def to_problem(faults: FaultList, subject: str) -> Problem:
    """Make a problem of the faults: 422 if all of them are impossible values, else 400."""
    message = faults.listed[0].message
    if faults.more:
        message = f"{subject} has {len(faults)} faults; details lists the first {MOST_LISTED}."
    elif len(faults) > 1:
        message = f"{subject} has {len(faults)} faults; see details."
    kind = Unprocessable if faults.codes <= UNPROCESSABLE else InvalidRequest
    return kind(message, details=faults.listed, more_faults=faults.more)


def _passes_checks(value: msgspec.Struct) -> bool:
    checks: Mapping[str, Check] = getattr(type(value), "checks", {})
    for name, check in checks.items():
        part = value if name == "" else getattr(value, name)
        if part is not None and part is not msgspec.UNSET and any(check(part)):
            return False
    return True


def _find_field_faults(
    name: str, value: Any, field: structs.FieldInfo, check: Check | None
) -> Iterator[Fault]:
    if (too_large := find_size_fault(name, value, field.type)) is not None:
        yield too_large
        return
    if depth_exceeds(value, MAX_DEPTH):
        yield Fault(name, "too_deep", f"{name} is nested deeper than {MAX_DEPTH} levels.")
        return
    try:
        converted = msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        yield from _find_entry_faults(name, value, field.type, str(error))
        return
    if contains_nul(converted):
        yield Fault(name, "invalid_character", f"{name} holds a NUL character (\\u0000).")
    elif check is not None and converted is not None:
        yield from check(converted)


def _find_entry_faults(path: str, value: Any, kind: Any, error: str) -> Iterator[Fault]:
    """The faults of the entries of a list, or of the value itself if no entry has one."""
    if (too_large := find_size_fault(path, value, kind)) is not None:
        yield too_large
        return
    has_entry_fault = False
    for index, part, part_kind in _list_entries(value, kind):
        try:
            msgspec.convert(part, part_kind)
        except msgspec.ValidationError as part_error:
            yield from _find_entry_faults(f"{path}.{index}", part, part_kind, str(part_error))
            has_entry_fault = True
    if not has_entry_fault:
        yield explain(path, error, kind)


def _list_entries(value: Any, kind: Any) -> Iterator[tuple[int, Any, Any]]:
    """Index, value and type of the entries of a list, if `kind` is a type of lists."""
    if isinstance(value, list):
        for part_kind in _find_entry_kinds(kind):
            yield from ((index, part, part_kind) for index, part in enumerate(value))


def _find_entry_kinds(kind: Any) -> Iterator[Any]:
    """The type X of each list[X] that a union or Annotated contains."""
    if get_origin(kind) is list:
        yield get_args(kind)[0]
    else:
        for part in get_args(kind):
            yield from _find_entry_kinds(part)


def _check_whole(
    fields: Mapping[str, Any], kind: type[msgspec.Struct], check: Check
) -> Iterator[Fault]:
    try:
        value = msgspec.convert(fields, kind)
    except msgspec.ValidationError:
        return
    yield from check(value)


def _decode_object(raw: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(raw)
    except RecursionError:
        message = f"The body is nested deeper than {MAX_DEPTH} levels."
        raise InvalidRequest(message, details=[Fault("", "too_deep", message)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error, raw) from None
    if not isinstance(fields, dict):
        message = "The body must be a JSON object."
        raise InvalidRequest(message, details=[Fault("", "invalid_type", message)])
    return cast(dict[str, Any], fields)


def _malformed(error: Exception, raw: bytes) -> InvalidRequest:
    message = explain_malformed(error, raw)
    return InvalidRequest(message, details=[Fault("", "invalid_json", message)])


def _convert_integers(fields: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Convert floats such as 3600.0 in integer fields: JSON makes no difference, msgspec does."""
    for name in _find_integers(kind) & fields.keys():
        value = fields[name]
        if isinstance(value, float) and value.is_integer():
            fields[name] = int(value)
    return fields


@cache  # reading the annotations takes longer than a whole request should
def _list_fields(kind: type[msgspec.Struct]) -> Mapping[str, structs.FieldInfo]:
    """The fields of a struct by their names in JSON."""
    return {field.encode_name: field for field in structs.fields(kind)}


@cache
def _find_integers(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(name for name, f in _list_fields(kind).items() if _holds_int(f.type))


def _holds_int(kind: Any) -> bool:
    return kind is int or any(_holds_int(part) for part in get_args(kind))


def _printable(name: str) -> str:
    shown = name[:MAX_NAME_LENGTH]
    return shown.encode("utf-8", "replace").decode().replace("\0", "\\u0000")
