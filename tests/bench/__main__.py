"""`python -m tests.bench`: measures Leadlog against the usual stack, on this machine, in one go."""

import asyncio
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.dev.datafolder import prepare_folder
from service.dev.supervisor import PROJECT
from service.processes import StartError
from service.settings import load_settings
from sql.errors import DatabaseError
from tests.bench.conduct import Bench, Options, run_bench
from tests.bench.plan import IDLE, WORKLOADS
from tests.bench.plot import plot_results
from tests.bench.programs import LoadError
from tests.bench.report import make_console, print_report
from tests.bench.results import FOLDER, collect_results, look_around, write_results
from tests.bench.stage import set_stage
from tests.bench.wrk import find_wrk

NAMES = (*(workload.name for workload in WORKLOADS), IDLE)
STOPPED = 130
console = make_console()


def bench(
    rounds: Annotated[int, typer.Option(min=1, help="How often all take turns.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one run.")] = 5,
    leads: Annotated[
        list[int] | None,
        typer.Option(min=1000, help="Size of a table; give it once for each.  [10000, 1000000]"),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this: {', '.join(NAMES)}; again for more.")
    ] = None,
    connections: Annotated[int, typer.Option(min=1, help="wrk's connections.")] = 64,
    what: Annotated[str, typer.Option(help="Goes into the name of the results' file.")] = "bench",
    with_workers: Annotated[
        bool, typer.Option("--with-workers", help="Run `leadlog work` beside each size.")
    ] = False,
    env: Annotated[
        list[str] | None, typer.Option(help="A setting of the service, NAME=VALUE; or several.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder for the results.")] = FOLDER,
    data_dir: Annotated[
        Path, typer.Option(help="Where the databases are made, and removed again.")
    ] = PROJECT / ".data",
    keep: Annotated[
        Path | None,
        typer.Option(help="Make them here instead, and keep the filled ones for the next run."),
    ] = None,
) -> None:
    """Measure Leadlog, a FastAPI app with the same routes, an empty Starlette reply and pgbench.

    Starts its own PostgreSQL and Valkey and stops them again, also on Ctrl-C. Needs wrk.
    Keep the machine quiet: everything shares its cores.
    """
    options = Options(
        rounds=rounds,
        seconds=seconds,
        sizes=sorted(set(leads or [10_000, 1_000_000])),
        only=_check_names(only or []),
        connections=connections,
        with_workers=with_workers,
        settings=_read_settings(env or []),
    )
    try:
        find_wrk()
        with uvloop_runner() as runner:
            runner.run(_run(options, what, results, keep or data_dir, keep is not None))
    except (LoadError, StartError, DatabaseError) as error:
        console.print(f"bench: {error}", style="red", highlight=False)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped; nothing was written.")
        raise typer.Exit(STOPPED) from None


def uvloop_runner() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _run(options: Options, what: str, folder: Path, parent: Path, keep: bool) -> None:
    at, scene = datetime.now(UTC), look_around()
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    finished = await _measure(options, prepare_folder(parent), keep)
    results = collect_results(what, at, scene, finished)
    print_report(results, console)
    path = write_results(results, folder)
    console.print(f"Written: {path}")
    picture = path.with_suffix(".png")
    if plot_results(results, picture):
        console.print(f"Drawn: {picture}")


async def _measure(options: Options, parent: Path, keep: bool) -> Bench:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        tell = _make_tell(progress)
        async with set_stage(
            parent, options.sizes, options.settings, console.print, keep=keep
        ) as stage:
            return await run_bench(options, stage, tell)


def _make_tell(progress: Progress) -> Callable[[str, int, int], None]:
    bar = progress.add_task("starting", total=None)

    def tell(text: str, done: int, total: int) -> None:
        progress.update(bar, description=text, completed=done, total=total or None)

    return tell


def _check_names(names: list[str]) -> list[str]:
    for name in names:
        if name not in NAMES:
            raise typer.BadParameter(f"there is no {name}: choose of {', '.join(NAMES)}")
    return names


def _read_settings(pairs: list[str]) -> dict[str, str]:
    """NAME=VALUE pairs; BadParameter for what the service would not take."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair} is not NAME=VALUE")
        settings[name] = value
    load_settings(settings)
    return settings


if __name__ == "__main__":
    typer.run(bench)
