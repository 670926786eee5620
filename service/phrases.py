"""What msgspec finds wrong with a value, as faults with sentences for the one who reads them."""

import re
from typing import Any, get_args

from service.errors import Fault

_AT = re.compile(r" - at (`key` in )?`\$(.*)`$")
_BOUND = re.compile(r"Expected `(\w+)`(?: of length)? (<=|>=|<|>) (-?[\d.]+)")
_KINDS = re.compile(r"Expected `([^`]+)`(?:, got `(\w+)`)?")
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
    """One message of msgspec about the value at `path`, whose type is `kind`."""
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
    return Fault(path, "invalid_value", f"{subject}: {text.replace('`', '').lower()}.")


def explain_malformed(error: Exception, raw: bytes) -> str:
    """Why the bytes of a body are no JSON, as a sentence."""
    if not raw.strip():
        return "The body is empty; it must be a JSON object."
    return f"The body is not valid JSON: {_find_reason(error)}."


def _find_reason(error: Exception) -> str:
    text = str(error).removeprefix("JSON is malformed: ")
    if isinstance(error, UnicodeDecodeError):
        return "a string is not valid UTF-8"
    if "surrogate" in text:
        return "a string holds half of a surrogate pair"
    if "out of range" in text:
        return "a number is out of range"
    if "truncated" in text:
        return "it ends too early, or a string ends with half of a surrogate pair"
    return re.sub(r"\(byte (\d+)\)", r"at byte \1", text).lower()


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
    """The strings of a Literal, however deep it sits in a union or Annotated."""
    choices: list[str] = []
    for part in get_args(kind):
        choices += [part] if isinstance(part, str) else _find_choices(part)
    return choices


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
