"""The end of a bench that cannot finish: one sentence and an exit code."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from service.cli.processes import StartError
from sql.errors import DatabaseError
from tests.bench.programs import LoadError

STOPPED = 130


@contextmanager
def explain_end(name: str, console: Console) -> Iterator[None]:
    """Turns the errors of a bench into a sentence and exit code 1, and Ctrl-C into STOPPED."""
    try:
        yield
    except (LoadError, StartError, DatabaseError) as error:
        console.print(f"{name}: {error}", style="red", highlight=False)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped; nothing was written.")
        raise typer.Exit(STOPPED) from None
