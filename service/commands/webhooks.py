"""Commands for the operator of webhooks."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from service.dev.addresses import add_dev_addresses
from service.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from service.webhooks.reconciling import End, Expired, Reckoning

EXIT_DIFFERENT = 1
Hours = Annotated[float, typer.Option(min=0.01, max=24 * 60, help="How far back to look.")]

webhooks = typer.Typer(help="Webhooks, seen by the operator.", no_args_is_help=True)


@webhooks.command("reconcile")
def reconcile(hours: Hours = 3.0) -> None:
    """Prove that every event became a delivery of each webhook that wanted it, exactly once.

    Goes back no further than events and deliveries are kept. Exit code 1 if they do not agree, or
    if that could not be shown up to a minute ago.
    """
    settings = add_dev_addresses(load_settings(os.environ))
    found, end, expired = asyncio.run(_reconcile(settings, hours))
    typer.echo(
        f"{found.expected} deliveries for {len(found.counts)} webhooks from "
        f"{_show(found.since)} to {_show(found.upto)} UTC"
    )
    for one in found.differences:
        typer.echo(
            f"{one.endpoint_id} of tenant {one.tenant_id}: {one.expected} expected, "
            f"{one.missing} missing, {one.doubled} double, {one.stray} that should not be"
        )
    for gone in expired:
        typer.echo(
            f"{gone.endpoint_id} of tenant {gone.tenant_id}: {gone.count} deliveries were given up "
            "unsent, for their events are no longer kept"
        )
    if end.is_late:
        typer.echo(
            f"Not proven beyond {_show(end.upto)} UTC: what came later is not made into "
            "deliveries yet. Is `leadlog work` running?"
        )
    if not found.differences:
        typer.echo("Nothing is missing, nothing is double.")
    if found.differences or end.is_late:
        raise typer.Exit(EXIT_DIFFERENT)


def _show(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


@webhooks.command("rotate-key")
def rotate_key() -> None:
    """Seal all webhook secrets with the first key of SECRET_KEY.

    Put the new key first (SECRET_KEY=new,old), restart the service, run this, then drop the old.
    """
    settings = add_dev_addresses(load_settings(os.environ))
    count = asyncio.run(_rotate_key(settings))
    typer.echo(f"{count} values sealed anew; the older keys in SECRET_KEY are no longer needed.")


async def _reconcile(
    settings: Settings, hours: float
) -> tuple["Reckoning", "End", list["Expired"]]:
    from service.webhooks.reconciling import count_expired, find_first_moment, reckon_since
    from sql.connection import connect

    now = datetime.now(UTC)
    since, first = now - timedelta(hours=hours), find_first_moment(settings, now)
    if since < first:
        typer.echo(f"Events and deliveries are kept to be compared from {_show(first)} UTC on.")
    async with connect(settings.require_database_url()) as conn:
        found, end = await reckon_since(conn, max(since, first))
        return found, end, await count_expired(conn, found.since, now)


async def _rotate_key(settings: Settings) -> int:
    from service.secretbox import SealError, make_box
    from service.webhooks.rekeying import rekey_all
    from sql.connection import connect

    box = make_box(settings)
    async with connect(settings.require_database_url()) as conn:
        try:
            return await rekey_all(conn, box)
        except SealError as error:
            raise SettingsError(f"Not all could be sealed anew: {error}.") from error
