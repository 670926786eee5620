"""`make bench-pipeline`: what a lead costs on its whole way, from the request to every reader."""

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.supervisor import PROJECT
from tests.bench.against.report import make_pair_table
from tests.bench.output.endings import explain_end
from tests.bench.output.progress import show_progress
from tests.bench.output.report import make_console
from tests.bench.output.results import FOLDER, Scene, look_around
from tests.bench.pipeline.conduct import Bench, Options, conduct
from tests.bench.pipeline.picture import draw_costs
from tests.bench.pipeline.plan import (
    VARIANTS,
    LoadSpec,
    Step,
    Variant,
    parse_load,
    plan_steps,
)
from tests.bench.pipeline.profile import NO_PROFILER, find_profiler
from tests.bench.pipeline.results import save
from tests.bench.pipeline.tables import print_runs

LOADS = "idle,10/s,100/s,500/s,1c,32c,128c"
PAIRS = 3
console = make_console()


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Length of each load.")] = 60,
    loads: Annotated[
        str, typer.Option(help="idle, leads/s as 100/s, connections as 32c; with commas.")
    ] = LOADS,
    variants: Annotated[str, typer.Option(help=f"{', '.join(VARIANTS)}; with commas.")] = "plain",
    against: Annotated[
        str | None, typer.Option(metavar="REF", help="Measure that commit, too, in turns.")
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help=f"Rounds of all loads.  [1; --against: {PAIRS}]"),
    ] = None,
    leads: Annotated[int, typer.Option(min=1000, help="Leads in the table at the begin.")] = 10_000,
    inner: Annotated[
        bool, typer.Option("--inner", help="Count the statements inside of functions, too.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Record API and worker with py-spy; it disturbs.")
    ] = False,
    saves: Annotated[bool, typer.Option("--save", help="Write a JSON file and a picture.")] = False,
    results: Annotated[Path, typer.Option(help="Folder for these files.")] = FOLDER,
    data_dir: Annotated[
        Path, typer.Option(help="Where the databases are made, and removed again.")
    ] = PROJECT / ".data",
) -> None:
    """Measure what a lead costs on its whole way, from the request to every reader.

    The command starts its own PostgreSQL and Valkey, one API process and one worker process, and
    stops them again. The default takes ten minutes; --against REF takes an hour, and ten minutes
    with --seconds 5. Keep the machine quiet: everything shares its cores.
    """
    steps = plan_steps(parse_loads(loads), parse_variants(variants))
    rounds = pairs or (1 if against is None else PAIRS)
    options = Options(
        seconds=seconds, loads=list(dict.fromkeys(step.load.name for step in steps)),
        variants=variants.split(","), leads=leads, rounds=rounds, inner=inner, profile=profile,
        against=against,
    )  # fmt: skip
    if profile and find_profiler() is None:
        console.print(NO_PROFILER, style="yellow")
    with explain_end("bench-pipeline", console):
        asyncio.run(run(steps, options, data_dir, results if saves else None))


async def run(steps: Sequence[Step], options: Options, data_dir: Path, saved: Path | None) -> None:
    """Measures, prints the tables and, with a folder, writes the files."""
    at, scene = datetime.now(UTC), look_around()
    with (
        show_progress(console) as tell,
        tempfile.TemporaryDirectory(prefix="bench-", dir=prepare_folder(data_dir)) as folder,
    ):
        bench = await conduct(steps, options, Path(folder), tell, console.print)
    report(bench, options, scene)
    if saved is not None:
        path = save(at, scene, options, bench, saved)
        console.print(f"Written: {path}")
        picture = path.with_suffix(".png")
        if draw_costs(bench.runs, picture):
            console.print(f"Drawn: {picture}")


def report(bench: Bench, options: Options, scene: Scene) -> None:
    if options.against is None:
        print_runs(bench.runs, console)
    for title, pairs in bench.pairs.items():
        console.print(
            make_pair_table(pairs.list_all(), str(options.against), f"{title}: this tree")
        )
    for note in bench.notes:
        console.print(f"· {note}", highlight=False, markup=False)
    theirs = f", theirs {bench.their_commit}" if bench.their_commit else ""
    console.print(
        f"Ours is {scene.commit}{theirs}. {scene.cores} cores shared with the load, "
        f"{scene.processor}; load {scene.load:g} before the start; {options.rounds} rounds of "
        f"{options.seconds:g} s, {options.leads:,} leads at the begin.",
        highlight=False,
    )


def parse_loads(text: str) -> list[LoadSpec]:
    try:
        return [parse_load(each) for each in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_variants(text: str) -> list[Variant]:
    for name in text.split(","):
        if name not in VARIANTS:
            raise typer.BadParameter(f"there is no {name}: choose one of {', '.join(VARIANTS)}")
    return [name for name in VARIANTS if name in text.split(",")]


if __name__ == "__main__":
    typer.run(main)
