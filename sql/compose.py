"""Composes statements from parts, where whole statements would repeat the same text.

A part is a named piece of a `.sql` file (`-- part: name`). In a part, `{other}` stands for another
part or for one of the given words, and `:name` for a parameter, numbered in order of appearance.
Values from requests are always parameters; words come from our code only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sql import PARTS

_SLOT = re.compile(r"\{([a-z_]+)\}")
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
_COMMENT = re.compile(r"^ *--[^\n]*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement's text and the names of its parameters, in the order of their numbers."""

    text: str
    parameters: tuple[str, ...]

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """The values of the statement's parameters in order; other values are left out."""
        return [values[name] for name in self.parameters]


def compose(part: str, words: Mapping[str, str]) -> Statement:
    """Makes a statement from a part."""
    numbers: dict[str, int] = {}
    text = _PARAMETER.sub(
        lambda match: f"${numbers.setdefault(match[1], len(numbers) + 1)}", fill_part(part, words)
    )
    return Statement(f"/* {part} */ {text.strip()}", tuple(numbers))


def fill_part(part: str, words: Mapping[str, str]) -> str:
    """The text of a part, each slot replaced by a part or by a word; a word may name a part."""

    def fill(match: re.Match[str]) -> str:
        name = words.get(match[1], match[1])
        return expand(PARTS[name]) if name in PARTS else words[match[1]]

    def expand(text: str) -> str:
        return _SLOT.sub(fill, _COMMENT.sub("", text))

    return expand(PARTS[part])
