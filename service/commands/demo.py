"""`leadlog demo`: sends realistic leads and reckons up what became of them."""

import asyncio
import os
import secrets
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from service.dev.addresses import add_dev_addresses
from service.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from rich.progress import Progress

    from service.demo.reckoning import Reckoning

EXIT_UNBALANCED = 1
Leads = Annotated[int, typer.Option(min=1, max=10_000_000, help="How many leads to send.")]
Concurrency = Annotated[int, typer.Option(min=1, max=1000, help="Requests in flight.")]
Seed = Annotated[int | None, typer.Option(help="The same seed makes the same people.")]
Url = Annotated[str | None, typer.Option(help="The API.  [http://HOST:PORT]")]
Key = Annotated[str | None, typer.Option(help="An admin key.  [DATA_DIR/admin.key]")]


def demo(
    leads: Leads = 10_000,
    concurrency: Concurrency = 64,
    seed: Seed = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send realistic leads over HTTP, then prove that nothing was lost, repeated or reordered.

    Needs a running `leadlog dev` (or DATABASE_URL and REDIS_URL of the service it is sent to). The
    leads stay. Exit code 1 if the reckoning does not balance.
    """
    settings = add_dev_addresses(load_settings(os.environ))
    url = url or f"http://{settings.host}:{settings.port}"
    key = key or _read_admin_key(settings)
    seed = seed if seed is not None else secrets.randbelow(2**40)
    reckoning, seconds = asyncio.run(_run(settings, url, key, leads, concurrency, seed))
    _print_reckoning(reckoning, leads, seconds, seed)
    if not reckoning.balances:
        raise typer.Exit(EXIT_UNBALANCED)


async def _run(
    settings: Settings, url: str, key: str, leads: int, concurrency: int, seed: int
) -> "tuple[Reckoning, float]":
    from service.demo.load import post_leads
    from service.demo.people import make_leads
    from service.demo.receiver import run_receiver
    from service.demo.reckoning import reckon, wait_until_settled
    from service.demo.stream import read_streams
    from sql.connection import connect

    async with (
        connect(settings.require_database_url()) as conn,
        read_streams(settings.require_redis_url(), f"demo-{seed:x}-{int(time.time())}") as stream,
        run_receiver(url, key) as hooks,
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

            load = await post_leads(url, key, make_leads(leads, seed), concurrency, advance)
            found = await reckon(conn, key, leads, load, stream, hooks)

            async def look() -> int:
                nonlocal found
                found = await reckon(conn, key, leads, load, stream, hooks)
                show()
                return sum(side.found for side in found.sides)

            await wait_until_settled(look, lambda: found.balances)
        _print_refusals(load.refused)
        return found, load.seconds


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
    for line in refused[:5]:
        typer.echo(f"refused: {line}", err=True)
    if len(refused) > 5:  # noqa: PLR2004
        typer.echo(f"… and {len(refused) - 5} more", err=True)


def _print_reckoning(found: "Reckoning", leads: int, seconds: float, seed: int) -> None:
    typer.echo(f"{leads} leads (seed {seed}) in {seconds:.1f} s: {leads / seconds:,.0f} a second.")
    width = max(len(side.name) for side in found.sides)
    for side in found.sides:
        mark = "ok" if side.balances else "WRONG"
        typer.echo(f"  {side.name:<{width}}  {side.found:>9,} of {side.expected:>9,}  {mark}")
    typer.echo(f"  webhooks repeated (at least once is the promise): {found.repeated_webhooks:,}")
    typer.echo(
        f"  scores: {found.lowest_score} lowest, {found.median_score} median, "
        f"{found.highest_score} highest"
    )
    typer.echo("Everything balances." if found.balances else "It does not balance.")
    sys.stdout.flush()


def _read_admin_key(settings: Settings) -> str:
    path = settings.data_dir / "admin.key"
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            f"There is no key in {path} ({error.strerror}): start `leadlog dev`, or give --key."
        ) from None
