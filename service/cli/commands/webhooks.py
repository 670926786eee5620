"""Commands for operators of webhooks."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.commands.addresses import add_dev_addresses
from service.cli.commands.output import describe_count
from service.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from service.webhooks.reconciliation import CheckedUntil, Expired, Reconciliation

EXIT_DIFFERENT = 1
Hours = Annotated[float, typer.Option(min=0.01, max=24 * 60, help="Hours to look back.")]

webhooks = typer.Typer(help="Webhooks: reconciliation and key rotation.", no_args_is_help=True)


@webhooks.command("reconcile", epilog="For example: leadlog webhooks reconcile --hours 24")
def reconcile(hours: Hours = 3.0) -> None:
    """Check that every event became exactly one delivery for each webhook that subscribes to it.

    The check covers only events and deliveries that are still stored. Exit code 1 if there are
    differences, or if the check could not cover the time up to a minute ago.
    """
    settings = add_dev_addresses(load_settings(os.environ))
    found, end, expired = asyncio.run(_reconcile(settings, hours))
    typer.echo(
        f"{_count_deliveries(found.expected)} for {describe_count(len(found.counts), 'webhook')} "
        f"from {_show(found.since)} to {_show(found.upto)} UTC"
    )
    for one in found.differences:
        typer.echo(
            f"{one.endpoint_id} of tenant {one.tenant_id}: {one.expected} expected, "
            f"{one.missing} missing, {one.doubled} duplicate, {one.stray} unexpected"
        )
    for gone in expired:
        typer.echo(
            f"{gone.endpoint_id} of tenant {gone.tenant_id}: {_count_deliveries(gone.count)} given "
            "up unsent, because the events are no longer kept"
        )
    if end.is_late:
        typer.echo(
            f"Not proven beyond {_show(end.upto)} UTC: what came later is not made into "
            "deliveries yet. Is `leadlog work` running?"
        )
    if not found.differences:
        typer.echo("No delivery is missing, duplicate or unexpected.")
    if found.differences or end.is_late:
        raise typer.Exit(EXIT_DIFFERENT)


def _count_deliveries(count: int) -> str:
    return describe_count(count, "delivery", "deliveries")


def _show(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


@webhooks.command("rotate-key", epilog="For example: leadlog webhooks rotate-key")
def rotate_key() -> None:
    """Encrypt all webhook secrets with the first key of SECRET_KEY.

    Put the new key first (SECRET_KEY=new,old), restart the service, run this, then remove the old.
    """
    settings = add_dev_addresses(load_settings(os.environ))
    count = asyncio.run(_rotate_key(settings))
    typer.echo(
        f"Encrypted {describe_count(count, 'value')} again; the older keys in SECRET_KEY are no "
        "longer needed."
    )


async def _reconcile(
    settings: Settings, hours: float
) -> tuple["Reconciliation", "CheckedUntil", list["Expired"]]:
    from service.webhooks.reconciliation import count_expired, find_first_moment, reconcile_since
    from sql.connection import connect

    now = datetime.now(UTC)
    since, first = now - timedelta(hours=hours), find_first_moment(settings, now)
    if since < first:
        typer.echo(
            f"The check begins at {_show(first)} UTC: events or deliveries from before that time "
            "may no longer be stored."
        )
    async with connect(settings.require_database_url()) as conn:
        found, end = await reconcile_since(conn, max(since, first))
        return found, end, await count_expired(conn, found.since, now)


async def _rotate_key(settings: Settings) -> int:
    from service.encryption import DecryptionError, make_encryptor
    from service.webhooks.key_rotation import reencrypt_all
    from sql.connection import connect

    encryptor = make_encryptor(settings)
    async with connect(settings.require_database_url()) as conn:
        try:
            return await reencrypt_all(conn, encryptor)
        except DecryptionError as error:
            raise SettingsError(f"Not every value could be encrypted again: {error}.") from error
