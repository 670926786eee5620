"""Wrong usage is explained in one line; the help of each command has an example."""

import shlex
from typing import Any

import pytest
import typer

from service.cli.program import app
from service.cli.usage import UsageError
from tests.service.cli.commandline import Command, bare

__all__ = ["bare"]  # a fixture
EXAMPLE = "For example: "


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("serve --port 0", "--port '0' cannot be used: it must be a whole number from 1 to 65535"),
        ("serve --workers x", "--workers 'x' cannot be used: it must be a whole number, 1 or more"),
        ("demo --seed 1.5", "--seed '1.5' cannot be used: it must be a whole number"),
        ("listen --delay 601", "--delay '601' cannot be used: it must be a number from 0 to 600"),
        ("keys create x --scope owner", "'owner' cannot be used: choose one of read, write, admin"),
        ("keys create --scope write", "The argument NAME is missing: Purpose of the key"),
        ("keys rotate", "The argument KEY_ID is missing"),
        ("keys rotate key_1 --grace-seconds -1", "must be a whole number from 0 to 2592000"),
        ("migrate --chekc", "No such option: --chekc (Possible options: --check, --help)"),
        ("serev", "No such command 'serev'. Did you mean 'serve'?"),
        ("plans set Bad", "'Bad' is not a valid name: use a-z, 0-9 and -"),
        ("plans set ok --route 'POST /leads'", "'POST /leads' is not like 'POST /leads=30'"),
    ],
)
def test_wrong_usage_is_one_line_with_the_allowed_values(
    bare: Command, arguments: str, words: str
) -> None:
    ended = bare(*shlex.split(arguments))
    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("leadlog: ")
    assert words in line
    assert "--help" in line


def list_commands() -> list[tuple[str, Any]]:
    """Each command with its name, such as `keys create`."""
    root: Any = typer.main.get_command(app)
    found: list[tuple[str, Any]] = []
    for name, command in root.commands.items():
        below = getattr(command, "commands", None)
        found += (
            [(f"{name} {sub}", each) for sub, each in below.items()] if below else [(name, command)]
        )
    return found


@pytest.mark.parametrize("name", [name for name, _ in list_commands()])
def test_the_help_of_each_command_has_an_example_that_is_accepted(bare: Command, name: str) -> None:
    command = dict(list_commands())[name]
    assert command.epilog.startswith(f"{EXAMPLE}leadlog {name}")
    assert "For example: " in bare(*name.split(), "--help").out
    words = shlex.split(command.epilog.removeprefix(f"{EXAMPLE}leadlog {name}"))
    command.make_context(name, words)  # raises if an option or a value is wrong


def test_the_base_of_usage_errors_is_the_one_of_typer() -> None:
    assert UsageError.__name__ == "UsageError"
    with pytest.raises(UsageError):
        dict(list_commands())["dev"].make_context("dev", ["--nosuch"])
