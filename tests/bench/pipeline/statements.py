"""The statements that PostgreSQL ran, from pg_stat_statements. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

TOP = 10
_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
_VALUE = re.compile(
    r"E?'(?:[^'\\]|''|\\.)*'|\$\d+|(?<![\w.])-?\d+(?:\.\d+)?|\b(?:true|false|null)\b", re.IGNORECASE
)
_WINDOW_READ = re.compile(r"^(window_read|read_window)")
_SPACE = re.compile(r"\s+")
TITLE_LENGTH = 40
ALIKE = 60
"""The characters that two texts share if one of them was changed further on, as lists are."""


class Statement(msgspec.Struct, kw_only=True):
    """The counts of one statement in a run; times in ms, of all calls together."""

    name: str
    """The name in sql/; without one, the beginning of the text."""
    calls: int
    rows: int
    plans: int
    plan_ms: float
    exec_ms: float
    wal_bytes: int
    top_level: bool = True
    """False for a statement inside of a function."""

    @property
    def total_ms(self) -> float:
        return self.plan_ms + self.exec_ms


class Names:
    """Finds the name of a statement by its text.

    pg_stat_statements keeps no comment before a statement and replaces constants by parameters, so
    texts are compared without comments, constants and parameters.
    """

    def __init__(self, named: Mapping[str, str]) -> None:
        """`named`: the tree's statements by name."""
        self._names = {reduce_text(text): name for name, text in named.items()}

    def find(self, text: str) -> str:
        """The name; for a text without one, its beginning."""
        reduced = reduce_text(text)
        if name := self._names.get(reduced):
            return name
        alike = [name for known, name in self._names.items()
                 if known[:ALIKE] == reduced[:ALIKE] and len(reduced) > ALIKE]  # fmt: skip
        return alike[0] if len(alike) == 1 else reduced[:TITLE_LENGTH]


def reduce_text(text: str) -> str:
    """The text without comments, constants, parameters and repeated spaces."""
    bare = _COMMENT.sub(" ", text)
    return _SPACE.sub(" ", _VALUE.sub("?", bare)).strip(" ;")


def merge_statements(statements: Iterable[Statement]) -> list[Statement]:
    """Adds up statements of the same name and level; the longest in total comes first."""
    merged: dict[tuple[str, bool], Statement] = {}
    for each in statements:
        key = each.name, each.top_level
        if (sum_ := merged.get(key)) is None:
            merged[key] = msgspec.structs.replace(each)
            continue
        for field in ("calls", "rows", "plans", "plan_ms", "exec_ms", "wal_bytes"):
            setattr(sum_, field, getattr(sum_, field) + getattr(each, field))
    return sorted(merged.values(), key=lambda each: each.total_ms, reverse=True)


def choose_top(
    statements: Sequence[Statement], top_level: bool = True, limit: int = TOP
) -> list[Statement]:
    """The statements of one level that took the most time."""
    return [each for each in statements if each.top_level is top_level][:limit]


def count_calls(statements: Iterable[Statement]) -> int:
    """The calls at the top level, BEGIN and COMMIT included."""
    return sum(each.calls for each in statements if each.top_level)


def count_window_reads(statements: Iterable[Statement]) -> int:
    return sum(each.calls for each in statements if _WINDOW_READ.match(each.name))
