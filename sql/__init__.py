"""The SQL statements of sql/*.sql, by name.

Each statement is an attribute of this package. Its text starts with its name in a comment, so that
pg_stat_activity and pg_stat_statements show the name. A `-- part:` line begins a piece of a
statement: `{name}` in a statement is replaced by the part of that name; `sql.compose` puts whole
statements together from parts.
"""

import re
from collections.abc import Callable
from pathlib import Path

_NAME = re.compile(r"^-- (name|part): ([a-z][a-z0-9_]*)$", re.MULTILINE)
_SLOT = re.compile(r"\{([a-z_]+)\}")


def read_statements(text: str) -> dict[str, str]:
    """The statements of a .sql file, by the names in its `-- name:` lines."""
    return {name: f"/* {name} */ {body}" for name, body in _read("name", text).items()}


def read_parts(text: str) -> dict[str, str]:
    """The parts of a .sql file, by the names in its `-- part:` lines."""
    return _read("part", text)


def _read(label: str, text: str) -> dict[str, str]:
    pieces = _NAME.split(text)
    labels, names, bodies = pieces[1::3], pieces[2::3], pieces[3::3]
    if len(set(names)) != len(names):
        raise ValueError(f"a statement name occurs twice: {sorted(names)}")
    named = zip(labels, names, bodies, strict=True)
    return {name: body.strip() for each, name, body in named if each == label}


def _load_all(read: Callable[[str], dict[str, str]]) -> dict[str, str]:
    loaded: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.sql")):
        for name, body in read(path.read_text(encoding="utf-8")).items():
            if name in loaded:
                raise ValueError(f"statement {name} is in {path.name} and in an earlier file")
            loaded[name] = body
    return loaded


PARTS = _load_all(read_parts)
STATEMENTS = {
    name: _SLOT.sub(lambda slot: PARTS[slot[1]], statement)
    for name, statement in _load_all(read_statements).items()
}


def __getattr__(name: str) -> str:
    try:
        return STATEMENTS[name]
    except KeyError:
        raise AttributeError(f"no statement named {name!r} in sql/*.sql") from None
