"""Conducts all runs: of this tree alone, or of two trees in turns."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import msgspec

from tests.bench.against.pairs import Pairs
from tests.bench.against.tree import OURS, check_out
from tests.bench.output.progress import Tell
from tests.bench.pipeline.compare import add_pair
from tests.bench.pipeline.measure import measure
from tests.bench.pipeline.plan import Step, order_rounds
from tests.bench.pipeline.run import Run
from tests.bench.pipeline.stage import Side, open_side
from tests.bench.programs import LoadError


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command line, as they are written into the results."""

    seconds: float
    loads: list[str]
    variants: list[str]
    leads: int
    rounds: int
    inner: bool
    profile: bool
    against: str | None


@dataclass
class Bench:
    """All runs, and the pairs of two trees by step."""

    runs: list[Run] = field(default_factory=list)
    pairs: dict[str, Pairs] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    their_commit: str = ""


async def conduct(
    steps: Sequence[Step], options: Options, folder: Path, tell: Tell, say: Callable[[str], None]
) -> Bench:
    """Runs every step once a round; with two trees, the first one alternates."""
    bench = Bench()
    async with AsyncExitStack() as stack:
        trees = [OURS]
        if options.against is not None:
            trees.append(await stack.enter_async_context(check_out(options.against, say)))
            bench.their_commit = trees[1].commit
        tell("starting the servers", 0, 0)
        sides = []
        for number, tree in enumerate(trees):
            opened = open_side(
                tree, folder / str(number), options.leads, say, inner=options.inner
            )  # fmt: skip
            sides.append(await stack.enter_async_context(opened))
        schedule = list(order_rounds(steps, options.rounds))
        for done, (number, step) in enumerate(schedule):
            tell(f"round {number}: {step.title}", done, len(schedule))
            await run_step(bench, sides, step, number, options)
    return bench


async def run_step(
    bench: Bench, sides: Sequence[Side], step: Step, number: int, options: Options
) -> None:
    """Measures a step on each side; a run that fails leaves a note and no figures."""
    runs: dict[Side, Run] = {}
    for side in sides if number % 2 else reversed(sides):
        try:
            run = await measure(side, step, number, options.seconds, with_profile=options.profile)
        except (LoadError, asyncpg.PostgresError, OSError) as error:
            bench.notes.append(f"Left out: {step.title}, round {number}, {side.tree.name}: {error}")
            continue
        runs[side] = run
        bench.runs.append(run)
        if not run.has_caught_up:
            bench.notes.append(
                f"{step.title}, round {number}: the readers of {side.tree.name} did not catch up "
                f"within {run.catch_up_s:.0f} s, and the costs lack that work."
            )
    if len(runs) > 1:
        ours, theirs = sides
        add_pair(bench.pairs.setdefault(step.title, Pairs()), runs[ours], runs[theirs])
