"""Reads the names of custom fields: "Budget (USD)" and "monthlyBudget" are budgets with a unit."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from workers.scoring.amount_tokens import tokenize
from workers.scoring.folding import fold

_MAX_NAME = 60
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|_")
_UNIT_KINDS = frozenset(("currency", "scale", "period", "time"))
_LINKS = frozenset(("in", "per"))


class Field(NamedTuple):
    """A custom field, and the unit in its name: "monthly", "usd"."""

    name: str
    value: Any
    unit: str


def find_fields(fields: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[Field]:
    """The custom fields with one of the names, in any case, with any separators and units."""
    for name, value in fields.items():
        unit = _read_unit(name, names)
        if unit is not None:
            yield Field(name, value, unit)


@lru_cache(maxsize=4096)  # a tenant's leads have the same custom fields
def _read_unit(name: str, names: tuple[str, ...]) -> str | None:
    """The unit in a name; None if it is none of the names."""
    joined = "".join(c for c in fold(name[:_MAX_NAME]) if c.isalnum())
    if joined in names:
        return ""
    if not any(known in joined for known in names):
        return None
    tokens = tokenize(fold(_HUMP.sub(" ", name[:_MAX_NAME])))
    units = [token.text for token in tokens if token.kind in _UNIT_KINDS]
    others = [t.text for t in tokens if t.kind not in _UNIT_KINDS and t.text not in _LINKS]
    plain = "".join(c for c in "".join(others) if c.isalnum())
    return " ".join(units) if plain in names else None
