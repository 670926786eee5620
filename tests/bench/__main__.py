"""`python -m tests.bench`: measures Leadlog against the usual stack, on this machine, in one go."""

import asyncio
import signal
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.supervisor import PROJECT
from service.settings import load_settings
from tests.bench.against import requests
from tests.bench.against.report import Comparison, publish
from tests.bench.against.session import open_sides
from tests.bench.conduct import Bench, Options, run_bench
from tests.bench.load.wrk import find_wrk
from tests.bench.output.endings import explain_end
from tests.bench.output.plot import plot_results
from tests.bench.output.progress import show_progress
from tests.bench.output.report import make_console, print_report
from tests.bench.output.results import FOLDER, collect_results, look_around, write_results
from tests.bench.plan import IDLE, WORKLOADS
from tests.bench.stage import set_stage

NAMES = (*(workload.name for workload in WORKLOADS), IDLE)
SIZES, SIZES_AGAINST = [10_000, 1_000_000], [100_000]
SIZES_HELP = "10000, 1000000; --against: 100000"
console = make_console()


def bench(
    rounds: Annotated[int, typer.Option(min=1, help="How often all take turns.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one run.")] = 5,
    leads: Annotated[
        list[int] | None,
        typer.Option(min=1000, help=f"Size of a table; give it once for each.  [{SIZES_HELP}]"),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="REF", help="Measure this tree against that commit only.")
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

    With --against, measure only `leadlog serve` of both trees, in turns. The command starts its own
    PostgreSQL and Valkey and stops them again, also on Ctrl-C. It needs wrk. Keep the machine
    quiet: everything shares its cores.
    """
    sizes = SIZES if against is None else SIZES_AGAINST
    options = Options(
        rounds=rounds,
        seconds=seconds,
        sizes=sorted(set(leads or sizes)),
        only=_check_names(only or []),
        connections=connections,
        with_workers=with_workers,
        settings=_read_settings(env or []),
    )
    if against is None:
        _finish(partial(_run, options, what, results, keep or data_dir, keep is not None))
    elif keep is None:
        _finish(partial(_run_against, against, options, what, results, data_dir))
    else:
        raise typer.BadParameter("--keep does not go with --against")


def _finish(run: Callable[[], Coroutine[None, None, None]]) -> None:
    """Runs a bench to its end; an error becomes one sentence and exit code 1."""
    with explain_end("bench", console):
        find_wrk()
        with uvloop_runner() as runner:
            runner.run(run())


def uvloop_runner() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _run(options: Options, what: str, folder: Path, parent: Path, keep: bool) -> None:
    at, scene = datetime.now(UTC), look_around()
    _end_with_sigterm()
    finished = await _measure(options, prepare_folder(parent), keep)
    results = collect_results(what, at, scene, finished)
    print_report(results, console)
    path = write_results(what, at, results, folder)
    console.print(f"Written: {path}")
    picture = path.with_suffix(".png")
    if plot_results(results, picture):
        console.print(f"Drawn: {picture}")


async def _measure(options: Options, parent: Path, keep: bool) -> Bench:
    with show_progress(console) as tell:
        async with set_stage(
            parent, options.sizes, options.settings, console.print, keep=keep
        ) as stage:
            return await run_bench(options, stage, tell)


async def _run_against(ref: str, options: Options, what: str, folder: Path, parent: Path) -> None:
    at, scene = datetime.now(UTC), look_around()
    _end_with_sigterm()
    with (
        show_progress(console) as tell,
        tempfile.TemporaryDirectory(prefix="bench-", dir=prepare_folder(parent)) as data,
    ):
        async with open_sides(ref, requests.SCRIPT, Path(data), console.print) as sides:
            bench = await requests.compare_requests(options, sides, tell)
    comparison = Comparison(
        what=f"{what}-against", at=at, scene=scene, against=ref,
        their_commit=sides.theirs.tree.commit, options=msgspec.structs.asdict(options),
        notes=bench.notes, pairs=bench.pairs.list_all(),
    )  # fmt: skip
    publish(comparison, folder, console)


def _end_with_sigterm() -> None:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _check_names(names: list[str]) -> list[str]:
    for name in names:
        if name not in NAMES:
            raise typer.BadParameter(f"there is no {name}: choose one of {', '.join(NAMES)}")
    return names


def _read_settings(pairs: list[str]) -> dict[str, str]:
    """Parses NAME=VALUE pairs; BadParameter for settings that the service would refuse."""
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
