"""The database's side: named statements from `sql/*.sql`, one per `-- name:` line.

`from sql import lead_get` gives the statement's text. Each starts with its name in a comment, so
that pg_stat_activity and pg_stat_statements show our names. `-- part:` lines begin pieces that
`sql.compose` puts together.
"""

import re
from collections.abc import Callable
from pathlib import Path

_NAME = re.compile(r"^-- (name|part): ([a-z][a-z0-9_]*)$", re.MULTILINE)


def read_statements(text: str) -> dict[str, str]:
    """Splits a .sql file at its `-- name:` lines into {name: statement}."""
    return {name: f"/* {name} */ {body}" for name, body in _read("name", text).items()}


def read_parts(text: str) -> dict[str, str]:
    """Splits a .sql file at its `-- part:` lines into {name: piece of a statement}."""
    return _read("part", text)


def _read(kind: str, text: str) -> dict[str, str]:
    pieces = _NAME.split(text)
    kinds, names, bodies = pieces[1::3], pieces[2::3], pieces[3::3]
    if len(set(names)) != len(names):
        raise ValueError(f"a statement name occurs twice: {sorted(names)}")
    return {n: body.strip() for k, n, body in zip(kinds, names, bodies, strict=True) if k == kind}


def _load_all(read: Callable[[str], dict[str, str]]) -> dict[str, str]:
    loaded: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.sql")):
        for name, body in read(path.read_text(encoding="utf-8")).items():
            if name in loaded:
                raise ValueError(f"statement {name} is in {path.name} and in an earlier file")
            loaded[name] = body
    return loaded


STATEMENTS = _load_all(read_statements)
PARTS = _load_all(read_parts)


def __getattr__(name: str) -> str:
    try:
        return STATEMENTS[name]
    except KeyError:
        raise AttributeError(f"no statement named {name!r} in sql/*.sql") from None
