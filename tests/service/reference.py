"""The requests and responses of the reference that the API implements, as data.

`reference.json` contains the curl commands and JSON blocks of the reference, but none of its
prose. If the file of the reference exists (SOURCE), a test compares both.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_suffix(".json")
SOURCE = Path(__file__).resolve().parents[3] / "shared" / "leads-api-reference.txt"
_HOST = re.compile(r"https://[a-z.]+")
_KEY = re.compile(r"sk_live_\w+")


@dataclass(frozen=True)
class Exchange:
    curl: str | None
    """A command with the placeholders {host} and {key}; None: only a response is shown."""
    answer: dict[str, Any]

    def make_curl(self, host: str, key: str) -> str:
        assert self.curl is not None
        return self.curl.replace("{host}", host).replace("{key}", key)


def load_exchanges() -> dict[str, Exchange]:
    """The exchanges by name: list, get, create, update, search, conflict."""
    exchanges = [Exchange(**entry) for entry in json.loads(DATA.read_text(encoding="utf-8"))]
    return dict(
        zip(("list", "get", "create", "update", "search", "conflict"), exchanges, strict=True)
    )


def parse_reference(text: str) -> list[dict[str, Any]]:
    """The curl commands of the reference, each with the JSON that follows it."""
    entries: list[dict[str, Any]] = []
    curl: str | None = None
    for block in split_blocks(_KEY.sub("{key}", _HOST.sub("{host}", text))):
        if block.startswith("curl"):
            curl = block
        else:
            entries.append({"curl": curl, "answer": json.loads(block)})
            curl = None
    return entries


def split_blocks(text: str) -> list[str]:
    """The curl commands and JSON blocks; a block ends with closed brackets and no backslash."""
    blocks: list[str] = []
    lines: list[str] = []
    depth = 0
    for line in text.splitlines():
        if not lines and not line.startswith(("curl ", "{")):
            continue
        lines.append(line)
        depth += len(re.findall(r"[{\[]", line)) - len(re.findall(r"[}\]]", line))
        if depth == 0 and not line.endswith("\\"):
            blocks.append("\n".join(lines))
            lines = []
    return blocks


if __name__ == "__main__":
    parsed = parse_reference(SOURCE.read_text(encoding="utf-8"))
    DATA.write_text(json.dumps(parsed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
