"""Commands for the operator of webhooks."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from service.dev_addresses import add_dev_addresses
from service.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from service.reconciling import Reckoning

EXIT_DIFFERENT = 1
Hours = Annotated[float, typer.Option(min=0.01, max=24 * 60, help="How far back to look.")]

webhooks = typer.Typer(help="Webhooks, seen by the operator.", no_args_is_help=True)


@webhooks.command("reconcile")
def reconcile(hours: Hours = 3.0) -> None:
    """Prove that every event became a delivery of each webhook that wanted it, exactly once.

    Exit code 1 if not.
    """
    settings = add_dev_addresses(load_settings(os.environ))
    found = asyncio.run(_reconcile(settings, hours))
    typer.echo(
        f"{found.expected} deliveries for {found.endpoints} webhooks from "
        f"{found.since:%Y-%m-%d %H:%M:%S} to {found.upto:%H:%M:%S} UTC"
    )
    for one in found.differences:
        typer.echo(
            f"{one.endpoint_id} of tenant {one.tenant_id}: {one.expected} expected, "
            f"{one.missing} missing, {one.doubled} double"
        )
    for gone in found.expired:
        typer.echo(
            f"{gone.endpoint_id} of tenant {gone.tenant_id}: {gone.count} deliveries were given up "
            "unsent, for their events are no longer kept"
        )
    if found.differences:
        raise typer.Exit(EXIT_DIFFERENT)
    typer.echo("Nothing is missing, nothing is double.")


@webhooks.command("rotate-key")
def rotate_key() -> None:
    """Seal all webhook secrets with the first key of SECRET_KEY.

    Put the new key first (SECRET_KEY=new,old), restart the service, run this, then drop the old.
    """
    settings = add_dev_addresses(load_settings(os.environ))
    count = asyncio.run(_rotate_key(settings))
    typer.echo(f"{count} values sealed anew; the older keys in SECRET_KEY are no longer needed.")


async def _reconcile(settings: Settings, hours: float) -> "Reckoning":
    from service.reconciling import reconcile as count
    from sql.connection import connect

    async with connect(settings.require_database_url()) as conn:
        return await count(conn, datetime.now(UTC) - timedelta(hours=hours))


async def _rotate_key(settings: Settings) -> int:
    from service.rekeying import rekey_all
    from service.secretbox import SealError, make_box
    from sql.connection import connect

    box = make_box(settings)
    async with connect(settings.require_database_url()) as conn:
        try:
            return await rekey_all(conn, box)
        except SealError as error:
            raise SettingsError(f"Not all could be sealed anew: {error}.") from error
