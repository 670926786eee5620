"""The database's side: named statements from `sql/*.sql`, one per `-- name:` line.

`from sql import lead_get` gives the statement's text. Each starts with its name in a comment, so
that pg_stat_activity and pg_stat_statements show our names.
"""

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


def read_statements(text: str) -> dict[str, str]:
    """Splits a .sql file at its `-- name:` lines into {name: statement}."""
    parts = _NAME.split(text)
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a statement name occurs twice: {sorted(names)}")
    return {name: f"/* {name} */ {body.strip()}" for name, body in zip(names, bodies, strict=True)}


def _load_all() -> dict[str, str]:
    statements: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.sql")):
        for name, body in read_statements(path.read_text(encoding="utf-8")).items():
            if name in statements:
                raise ValueError(f"statement {name} is in {path.name} and in an earlier file")
            statements[name] = body
    return statements


STATEMENTS = _load_all()


def __getattr__(name: str) -> str:
    try:
        return STATEMENTS[name]
    except KeyError:
        raise AttributeError(f"no statement named {name!r} in sql/*.sql") from None
