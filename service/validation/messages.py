"""Faults with readable messages, from the error messages of msgspec."""

import re
from typing import Any, get_args

from service.errors import Fault

_AT = re.compile(r" - at (`key` in )?`\$(.*)`$")
_BOUND = re.compile(r"Expected `(\w+)`(?: of length)? (<=|>=|<|>) (-?[\d.]+)")
_KINDS = re.compile(r"Expected `([^`]+)`(?:, got `(\w+)`)?")
_AT_BYTE = re.compile(r"\(byte (\d+)\)")
_JSON_REASONS = {
    "surrogate": "a string holds half of a surrogate pair",
    "out of range": "a number is out of range",
    "truncated": "it ends too early, or a string ends with half of a surrogate pair",
    "trailing comma": "a comma follows the last entry",
    "trailing characters": "the object is followed by something else",
    "expected ':'": "a colon is missing",
    "expected ','": "a comma or a closing bracket is missing",
    "expected '\"'": "a name must be in double quotes",
    "object keys": "a name must be in double quotes",
    "invalid number": "a number is malformed",
    "escape": "an escape sequence is invalid",
    "invalid character": "a character is not allowed",
}
"""Our reason for each of msgspec's error texts that contains the key; the first match counts."""
_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_GOT = _WORDS | {"float": "a decimal number", "bool": "a boolean"}
_UNITS = {"str": "character", "array": "entry", "object": "key"}
_LIMITS = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}


def explain(path: str, error: str, kind: Any) -> Fault:
    """The fault for msgspec's `error` about the value at `path`, whose type is `kind`."""
    at = _AT.search(error)
    text = _AT.sub("", error)
    subject = path
    if at is not None:
        path += re.sub(r"\[(\d+)\]", r".\1", at[2].replace("[...]", ""))
        subject = f"A key of {path}" if at[1] else path
    if text.startswith("Invalid enum value"):
        return Fault(path, "invalid_value", f"{subject} must be {_join_choices(kind)}.")
    if bound := _BOUND.match(text):
        return _explain_bound(path, subject, bound, is_length="of length" in text)
    if kinds := _KINDS.match(text):
        wanted = _join([_WORDS.get(name, name) for name in kinds[1].split(" | ")])
        got = f", not {_GOT.get(kinds[2], kinds[2])}" if kinds[2] else ""
        return Fault(path, "invalid_type", f"{subject} must be {wanted}{got}.")
    if "out of range" in text:
        return Fault(path, "invalid_value", f"{subject} is out of range.")
    return Fault(path, "invalid_value", f"{subject} has an invalid value.")


def make_length_fault(path: str, of: type, most: int) -> Fault:
    """The fault of a list or object with too many entries, worded as by `explain`."""
    unit = ("entry" if most == 1 else "entries") if of is list else ("key" if most == 1 else "keys")
    return Fault(path, "too_long", f"{path} must have at most {most} {unit}.")


def explain_malformed(error: Exception, raw: bytes) -> str:
    """A sentence that says why a body is not valid JSON."""
    if not raw.strip():
        return "The body is empty; it must be a JSON object."
    return f"The body is not valid JSON: {_find_reason(error)}."


def _find_reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a string is not valid UTF-8"
    text = str(error)
    reasons = (ours for theirs, ours in _JSON_REASONS.items() if theirs in text)
    reason = next(reasons, "it is malformed")
    return f"{reason} at byte {at[1]}" if (at := _AT_BYTE.search(text)) else reason


def _explain_bound(path: str, subject: str, bound: re.Match[str], *, is_length: bool) -> Fault:
    kind, sign, number = bound.groups()
    limit = f"{_LIMITS[sign]} {number}"
    if not is_length:
        return Fault(path, "out_of_range", f"{subject} must be {limit}.")
    unit = _UNITS.get(kind, "character")
    if number != "1":
        unit = unit.removesuffix("y") + "ies" if unit.endswith("ry") else unit + "s"
    code = "too_long" if sign.startswith("<") else "too_short"
    return Fault(path, code, f"{subject} must have {limit} {unit}.")


def _join_choices(kind: Any) -> str:
    choices = list(_find_choices(kind))
    return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"


def _find_choices(kind: Any) -> list[str]:
    """The strings of a Literal that a union or Annotated may contain."""
    choices: list[str] = []
    for part in get_args(kind):
        choices += [part] if isinstance(part, str) else _find_choices(part)
    return choices


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
