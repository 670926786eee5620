"""Finds the commands in documents, and checks whether `leadlog` accepts them."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import typer.main

from service.cli.program import app

ROOT = Path(__file__).parents[2]
_INDENTED = re.compile(r"(?:^    .*\n(?:[ \t]*\n(?=    ))?)+", re.MULTILINE)
_FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"(?:^|[\s/(]|(?<!User)=)leadlog(?= [a-z-])(.*)$")
ACTING = {"--install-completion"}
"""Options that act while they are parsed; the check is only that they exist."""
_INLINE = re.compile(r"`(?:\.venv/bin/)?leadlog ([^`]+)`")


@dataclass(frozen=True)
class ShownCommand:
    """A command line and its place in the documents."""

    place: str
    words: tuple[str, ...]
    is_whole: bool
    """Whether it is a complete command to copy; a sentence may name only a part of a command."""

    def __str__(self) -> str:
        return f"{self.place}: leadlog {shlex.join(self.words)}"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read_section(name: str, heading: str) -> str:
    """The text below a heading of a Markdown file."""
    found = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", read(name), re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def find_blocks(text: str) -> list[str]:
    """The indented and fenced blocks, without their indentation."""
    found = [(match.start(), match[1]) for match in _FENCED.finditer(text)]
    found += [
        (match.start(), re.sub(r"^    ", "", match[0], flags=re.MULTILINE))
        for match in _INDENTED.finditer(text)
    ]
    return [block for _, block in sorted(found)]


def find_lines(place: str, text: str) -> Iterator[ShownCommand]:
    """The lines that run `leadlog`, directly or through another command before it."""
    for line in text.replace("\\\n", " ").splitlines():
        if match := _LINE.search(line.rstrip(")")):
            with contextlib.suppress(ValueError):  # an apostrophe: prose
                yield ShownCommand(place, _split(match[1]), is_whole=True)


def find_inline(place: str, text: str) -> Iterator[ShownCommand]:
    """The commands that sentences name between backticks."""
    for match in _INLINE.finditer(text):
        if match[1] != "…":
            yield ShownCommand(place, _split(match[1]), is_whole=False)


def _split(text: str) -> tuple[str, ...]:
    """The words up to a pipe or a comment; `N` stands for a number."""
    words = shlex.split(text.partition(" | ")[0], comments=True)
    return tuple("1" if word == "N" else word for word in words)


def find_fault(shown: ShownCommand) -> str | None:
    """The error of `leadlog` for these arguments, or None. The command is not run."""
    command: Any = typer.main.get_command(app)
    context, options = None, 0
    words = [word for word in shown.words if word not in ACTING]
    if len(words) < len(shown.words):
        known = {name for each in command.params for name in each.opts}
        return None if known >= ACTING & set(shown.words) else "NoSuchOption"
    try:
        while True:
            with contextlib.redirect_stdout(io.StringIO()):
                context = command.make_context(command.name, list(words), parent=context)
            if not hasattr(command, "commands"):
                return None
            _, command, words = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            options = len(words)
    except typer.Exit:  # --help, --version
        return None
    except typer.TyperException as error:
        names_only = not shown.is_whole and not options
        if names_only and type(error).__name__ in {"MissingParameter", "NoArgsIsHelpError"}:
            return None
        return f"{type(error).__name__} {error}"


def find_help() -> Iterator[tuple[str, str]]:
    """Each command and the texts of its `--help`."""
    yield from _walk("leadlog", typer.main.get_command(app))


def _walk(name: str, command: Any) -> Iterator[tuple[str, str]]:
    texts = [
        command.help,
        command.epilog,
        *(getattr(each, "help", None) for each in command.params),
    ]
    yield name, "\n".join(text for text in texts if text)
    for child in getattr(command, "commands", {}).values():
        yield from _walk(f"{name} {child.name}", child)
