"""Bodies and query strings in, structs out; and when they are wrong, every fault at once.

msgspec stops at its first error, so a valid request takes one decode and only an invalid one is
looked at field by field. What a type alone cannot say (e-mail syntax, say) a struct adds as
`checks`, pure functions by field that yield faults.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import structs

from service.errors import Fault, InvalidRequest, Problem, Unprocessable
from service.phrases import explain, explain_malformed

Check = Callable[[Any], Iterable[Fault]]
UNPROCESSABLE = frozenset(
    {
        "invalid_email", "invalid_phone", "invalid_url", "invalid_secret", "blocked_address",
        "impossible_range", "impossible_time",
    }
)  # fmt: skip
"""Faults of values that are well-formed but impossible: 422 when nothing is wrong beside them."""
MAX_DEPTH = 100
_INTEGER = re.compile(r"-?[0-9]{1,40}")


class Input(Protocol):
    """A struct that comes in from outside."""

    checks: ClassVar[Mapping[str, Check]]
    read_only: ClassVar[frozenset[str]]


T = TypeVar("T", bound=msgspec.Struct)


def decode_body(raw: bytes, kind: type[T]) -> T:
    """Decodes a JSON body; raises InvalidRequest or Unprocessable with all its faults."""
    try:
        value = msgspec.json.decode(raw, type=kind)
        suspicious = b"\\u0000" in raw or raw.count(b"[") + raw.count(b"{") > MAX_DEPTH
        if not suspicious and _passes_checks(value):
            return value
    except (msgspec.ValidationError, RecursionError):
        pass
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error, raw) from None
    fields = _take_integers(_decode_object(raw), kind)
    faults = list(find_faults(fields, kind))
    if faults:
        raise to_problem(faults, "The request body")
    return msgspec.convert(fields, kind)


def decode_query(pairs: list[tuple[str, str]], kind: type[T]) -> T:
    """Decodes a query string; `name[key]=value` collects into a dict field `name`."""
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    integers = _find_integers(kind)
    for name, text in pairs:
        base, bracket, rest = name.partition("[")
        if bracket and rest.endswith("]"):
            target, key = values.setdefault(base, {}), rest[:-1]
        else:
            target, key = values, name
        if not isinstance(target, dict) or key in target:
            faults.append(Fault(name, "duplicate", f"{name} is given more than once."))
            continue
        target[key] = int(text) if name in integers and _INTEGER.fullmatch(text) else text
    if not faults and not _contains_nul(values):
        try:
            value = msgspec.convert(values, kind)
            if _passes_checks(value):
                return value
        except msgspec.ValidationError:
            pass
    faults += find_faults(values, kind)
    if faults:
        raise to_problem(faults, "The query string")
    return msgspec.convert(values, kind)


def find_faults(fields: Mapping[str, Any], kind: type[msgspec.Struct]) -> Iterator[Fault]:
    """Every fault of an object against a struct type, in the order of the struct's fields."""
    known = _list_fields(kind)
    yield from _find_strangers(fields, known, kind)
    checks: Mapping[str, Check] = getattr(kind, "checks", {})
    faults: list[Fault] = []
    for name, field in known.items():
        if name in fields:
            faults += _find_field_faults(name, fields[name], field, checks.get(field.name))
        elif field.required:
            faults.append(Fault(name, "required", f"{name} is required."))
    yield from faults
    if not faults and "" in checks:  # a check of the whole takes its parts for sound
        yield from _check_whole(fields, kind, checks[""])


def _find_strangers(
    fields: Mapping[str, Any], known: Mapping[str, Any], kind: type[msgspec.Struct]
) -> Iterator[Fault]:
    read_only: frozenset[str] = getattr(kind, "read_only", frozenset())
    for name in fields:
        if name in read_only:
            yield Fault(name, "read_only", f"{name} is set by the service and cannot be written.")
        elif name not in known:
            yield Fault(_printable(name), "unknown_field", f"{_printable(name)} is not known here.")


def to_problem(faults: list[Fault], subject: str) -> Problem:
    """422 if all that is wrong is impossible values, else 400; `details` lists each fault."""
    first, more = faults[0].message, len(faults) - 1
    message = first if not more else f"{subject} has {len(faults)} faults; see details."
    if all(fault.code in UNPROCESSABLE for fault in faults):
        return Unprocessable(message, details=faults)
    return InvalidRequest(message, details=faults)


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
    if _depth_exceeds(value, MAX_DEPTH):
        yield Fault(name, "too_deep", f"{name} is nested deeper than {MAX_DEPTH} levels.")
    elif _contains_nul(value):
        yield Fault(name, "invalid_character", f"{name} holds a NUL character (\\u0000).")
    else:
        try:
            converted = msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            yield from _find_parts_faults(name, value, field.type, str(error))
        else:
            if check is not None and converted is not None:
                yield from check(converted)


def _find_parts_faults(path: str, value: Any, kind: Any, error: str) -> Iterator[Fault]:
    """The faults of the entries of a list or object if there are any, else that of the whole."""
    faults: list[Fault] = []
    for place, part, part_kind in _list_parts(value, kind):
        try:
            msgspec.convert(part, part_kind)
        except msgspec.ValidationError as part_error:
            faults += _find_parts_faults(f"{path}{place}", part, part_kind, str(part_error))
    yield from faults or [explain(path, error, kind)]


def _list_parts(value: Any, kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """The entries of a list with their place and type, where the type says what they are."""
    if isinstance(value, list):
        for part_kind in _find_entry_kinds(kind):
            yield from ((f".{index}", part, part_kind) for index, part in enumerate(value))


def _find_entry_kinds(kind: Any) -> Iterator[Any]:
    """X of list[X], however deep it sits in a union or Annotated."""
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


def _take_integers(fields: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """3600.0 is an integer in JSON, if not in msgspec."""
    for name in _find_integers(kind) & fields.keys():
        value = fields[name]
        if isinstance(value, float) and value.is_integer():
            fields[name] = int(value)
    return fields


@cache  # reading them from the annotations takes longer than a whole request should
def _list_fields(kind: type[msgspec.Struct]) -> Mapping[str, structs.FieldInfo]:
    """The fields of a struct by their names on the wire."""
    return {field.encode_name: field for field in structs.fields(kind)}


@cache
def _find_integers(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(name for name, f in _list_fields(kind).items() if _holds_int(f.type))


def _holds_int(kind: Any) -> bool:
    return kind is int or any(_holds_int(part) for part in get_args(kind))


def _contains_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_contains_nul(k) or _contains_nul(v) for k, v in value.items())
    return isinstance(value, list) and any(_contains_nul(item) for item in value)


def _depth_exceeds(value: Any, limit: int) -> bool:
    if isinstance(value, dict):
        return limit == 0 or any(_depth_exceeds(item, limit - 1) for item in value.values())
    if isinstance(value, list):
        return limit == 0 or any(_depth_exceeds(item, limit - 1) for item in value)
    return False


def _printable(name: str) -> str:
    return name[:64].encode("utf-8", "replace").decode().replace("\0", "\\u0000")
