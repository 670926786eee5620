"""The file of a run of the pipeline bench."""

from datetime import datetime
from pathlib import Path

import msgspec

from tests.bench.against.pairs import Pair
from tests.bench.output.results import Scene, find_versions, write_results
from tests.bench.pipeline.conduct import Bench, Options
from tests.bench.pipeline.run import Run


class Results(msgspec.Struct, kw_only=True):
    """The file's content."""

    at: datetime
    scene: Scene
    versions: dict[str, str]
    options: Options
    their_commit: str
    notes: list[str]
    pairs: dict[str, list[Pair]]
    """By load and variant."""
    runs: list[Run]


def save(at: datetime, scene: Scene, options: Options, bench: Bench, folder: Path) -> Path:
    """Writes the results and returns the path of the file."""
    what = "pipeline" if options.against is None else "pipeline-against"
    results = Results(
        at=at, scene=scene, versions=find_versions(), options=options,
        their_commit=bench.their_commit, notes=bench.notes,
        pairs={title: pairs.list_all() for title, pairs in bench.pairs.items()}, runs=bench.runs,
    )  # fmt: skip
    return write_results(what, at, results, folder)
