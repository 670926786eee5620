"""`leadlog demo`: sends realistic leads and checks that none was lost or repeated."""

import asyncio
import os
import secrets
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.commands.addresses import Key, Url, add_dev_addresses, find_key, find_own_url
from service.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.progress import Progress

    from service.cli.demo.balance import Balance
    from service.cli.listen.api_client import ApiAccess

EXIT_UNBALANCED = 1
MAX_REFUSALS_SHOWN = 5
Leads = Annotated[int, typer.Option(min=1, max=10_000_000, help="Number of leads to send.")]
Concurrency = Annotated[int, typer.Option(min=1, max=1000, help="Requests at the same time.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same leads.")]

EXAMPLE = "For example: leadlog demo --leads 1000 --seed 7"


def demo(
    leads: Leads = 10_000,
    concurrency: Concurrency = 64,
    seed: Seed = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send realistic leads over HTTP, then check that none was lost, repeated or reordered.

    Needs a running `leadlog dev`, or DATABASE_URL and REDIS_URL of the service at --url. The leads
    are not deleted. Exit code 1 if a check fails.
    """
    from service.cli.listen.api_client import ApiAccess, read_api_key, read_api_url

    settings = add_dev_addresses(load_settings(os.environ))
    settings.require_database_url()
    url = read_api_url(find_own_url(settings) if url is None else url)
    key, source = find_key(key, settings)
    access = ApiAccess(url, read_api_key(key, source), source)
    seed = seed if seed is not None else secrets.randbelow(2**40)
    balance, seconds = asyncio.run(_run(settings, access, leads, concurrency, seed))
    _print_balance(balance, leads, seconds, seed)
    if not balance.holds:
        raise typer.Exit(EXIT_UNBALANCED)


async def _run(
    settings: Settings, access: "ApiAccess", leads: int, concurrency: int, seed: int
) -> "tuple[Balance, float]":
    from service.cli.demo.balance import find_caller, measure_balance, wait_until_settled
    from service.cli.demo.load import post_leads
    from service.cli.demo.people import make_leads
    from service.cli.demo.receiver import run_receiver
    from service.cli.demo.stream import read_streams
    from sql.connection import connect

    async with (
        run_receiver(access) as hooks,
        connect(settings.require_database_url()) as conn,
        read_streams(settings.require_redis_url(), f"demo-{seed:x}-{int(time.time())}") as stream,
    ):
        with _make_progress() as progress:
            sending = progress.add_task("sent", total=leads)
            hooked = progress.add_task("announced by webhook", total=leads)
            streamed = progress.add_task("events on the stream", total=None)

            def show() -> None:
                progress.update(hooked, completed=len(hooks.lead_ids))
                progress.update(streamed, completed=len(stream.events))

            def advance() -> None:
                progress.advance(sending)
                show()

            await find_caller(conn, access.key)  # before anything is sent
            load = await post_leads(
                access.url, access.key, make_leads(leads, seed), concurrency, advance
            )
            balance = await measure_balance(conn, access.key, leads, load, stream, hooks)

            async def count() -> int:
                nonlocal balance
                balance = await measure_balance(conn, access.key, leads, load, stream, hooks)
                show()
                return sum(check.found for check in balance.checks)

            await wait_until_settled(count, lambda: balance.holds)
        _print_refusals(load.refused)
        return balance, load.seconds


def _make_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:>22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _print_refusals(refused: list[str]) -> None:
    for line in refused[:MAX_REFUSALS_SHOWN]:
        typer.echo(f"refused: {line}", err=True)
    if (others := len(refused) - MAX_REFUSALS_SHOWN) > 0:
        typer.echo(f"… and {others} more", err=True)


def _print_balance(balance: "Balance", leads: int, seconds: float, seed: int) -> None:
    typer.echo(f"{leads} leads (seed {seed}) in {seconds:.1f} s: {leads / seconds:,.0f} a second.")
    width = max(len(check.name) for check in balance.checks)
    for check in balance.checks:
        mark = "ok" if check.holds else "WRONG"
        typer.echo(f"  {check.name:<{width}}  {check.found:>9,} of {check.expected:>9,}  {mark}")
    typer.echo(f"  webhooks repeated (at least once is the promise): {balance.repeated_webhooks:,}")
    typer.echo(
        f"  scores: {balance.lowest_score} lowest, {balance.median_score} median, "
        f"{balance.highest_score} highest"
    )
    typer.echo("Everything balances." if balance.holds else "It does not balance.")
    sys.stdout.flush()
