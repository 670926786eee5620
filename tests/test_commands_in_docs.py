"""`leadlog` accepts every command that a document, a unit file or a help text shows."""

import importlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.documents import (
    ROOT,
    ShownCommand,
    find_blocks,
    find_fault,
    find_help,
    find_inline,
    find_lines,
    read,
)

yaml: Any = importlib.import_module("yaml")
MARKDOWN = ("README.md", "deploy/README.md", "deploy/RUNBOOK.md", "DECISIONS.md", "CHANGELOG.md")
UNITS = ("deploy/systemd/leadlog-api.service", "deploy/systemd/leadlog-worker.service")


def find_in_containers() -> Iterator[ShownCommand]:
    services = yaml.safe_load(read("deploy/compose.yaml"))["services"]
    for name, service in services.items():
        program, *words = service.get("command", [""])
        if program == "leadlog":
            yield ShownCommand(f"compose.yaml, {name}", tuple(words), is_whole=True)
    (program, *words) = json.loads(
        re.findall(r"^CMD (\[.*\])$", read("deploy/Dockerfile"), re.MULTILINE)[-1]
    )
    assert program == "leadlog"
    yield ShownCommand("Dockerfile", tuple(words), is_whole=True)


def find_all() -> Iterator[ShownCommand]:
    for name in MARKDOWN:
        for block in find_blocks(read(name)):
            yield from find_lines(name, block)
        yield from find_inline(name, re.sub(r"\s*\n\s*", " ", read(name)))
    for path in sorted((ROOT / "service/docs/guides").glob("*.md")):
        yield from find_inline(f"guide {path.stem}", path.read_text("utf-8").replace("\n", " "))
    for name in (*UNITS, "deploy/compose.yaml"):
        yield from find_lines(name, read(name))
    yield from find_inline("env.example", read("deploy/env.example"))
    yield from find_in_containers()
    for command, text in find_help():
        yield from find_lines(f"{command} --help", "\n".join(re.findall(r"\$\((.*?)\)", text)))
        yield from find_lines(
            f"{command} --help", "\n".join(re.findall(r"^For example: (.*)", text, re.MULTILINE))
        )
        yield from find_inline(f"{command} --help", text)
    for folder in ("service", "workers", "sql"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            yield from find_inline(name, path.read_text(encoding="utf-8"))


ALL = sorted(set(find_all()), key=str)


def test_commands_are_found_in_every_kind_of_document() -> None:
    places = {shown.place for shown in ALL if shown.is_whole}
    assert {"README.md", "deploy/compose.yaml", "compose.yaml, worker", "Dockerfile"} <= places
    assert {*UNITS, "leadlog plans set --help", "leadlog keys create --help"} <= places
    assert len(ALL) > 80


@pytest.mark.parametrize("shown", ALL, ids=str)
def test_leadlog_accepts_the_command_as_it_is_shown(shown: ShownCommand) -> None:
    assert find_fault(shown) is None


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("keys create --tenant acme --scope write", "MissingParameter"),
        ("serve --wrkers 2", "NoSuchOption"),
        ("nosuch", "No such command"),
        ("tenants create one two", "unexpected extra argument"),
        ("serve --port 0", "BadParameter"),
    ],
)
def test_a_command_that_leadlog_refuses_is_detected(words: str, fault: str) -> None:
    for is_whole in (True, False):
        found = find_fault(ShownCommand("here", tuple(words.split()), is_whole))
        assert found is not None
        assert fault in found
