"""Commands for the database's schema."""

import asyncio
import os
from typing import Annotated

import typer

from service.settings import load_settings

EXAMPLE = "For example: leadlog migrate --check"


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 if a migration is missing.")
    ] = False,
) -> None:
    """Update the database's schema. Safe to repeat, and while Leadlog is running."""
    from service.cli.commands.addresses import add_dev_addresses
    from sql import migrate as migrations

    dsn = add_dev_addresses(load_settings(os.environ)).require_database_url()
    names = asyncio.run(migrations.pending(dsn) if check else migrations.migrate(dsn))
    for name in names:
        typer.echo(f"{'missing' if check else 'applied'}\t{name}")
    if not names:
        typer.echo("The schema is up to date.", err=True)
    if names and check:
        typer.echo("leadlog: The schema is behind: run `leadlog migrate`.", err=True)
        raise typer.Exit(1)
