"""A picture of the processor time per lead by process, drawn if matplotlib is installed."""

import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.bench.against.tree import OURS
from tests.bench.pipeline.cpu import GROUPS
from tests.bench.pipeline.run import Run
from tests.bench.pipeline.tables import name_run

COLOURS = {
    "PostgreSQL": "tab:blue", "Valkey": "tab:red", "API": "tab:orange", "worker": "tab:green",
}  # fmt: skip
PER_ROW = 5


def draw_costs(runs: Sequence[Run], path: Path) -> bool:
    """Stacked bars for each load, the other tree's beside; False without matplotlib."""
    if find_spec("matplotlib") is None or not runs:
        return False
    import matplotlib as mpl  # noqa: PLC0415  # optional

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    loads = list(dict.fromkeys(name_run(run) for run in runs))
    columns, rows = min(len(loads), PER_ROW), -(-len(loads) // PER_ROW)
    figure, axes = plt.subplots(rows, columns, figsize=(2.3 * columns, 3.4 * rows), squeeze=False)
    for axis in axes.flat[len(loads) :]:
        axis.set_visible(False)
    for axis, load in zip(axes.flat, loads, strict=False):
        _draw_load(axis, [run for run in runs if name_run(run) == load])
        axis.set_title(load, fontsize=10)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", fontsize=8)
    figure.suptitle("Processor time of a lead, medians", fontsize=11)
    figure.tight_layout(rect=(0, 0, 0.97 - 0.4 / columns, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def _draw_load(axis: Any, runs: Sequence[Run]) -> None:
    trees = sorted({run.tree for run in runs}, key=lambda tree: tree == OURS.name)  # old first
    bottoms = [0.0] * len(trees)
    for group in GROUPS:
        heights = [find_cost([run for run in runs if run.tree == tree], group) for tree in trees]
        axis.bar(trees, heights, bottom=bottoms, color=COLOURS[group], label=group, width=0.6)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axis.set_ylabel("µs a lead" if runs[0].changes else "% of a core", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.set_xlim(-0.8, len(trees) - 0.2)


def find_cost(runs: Sequence[Run], group: str) -> float:
    """The median µs a lead of a group; of an idle load, its percent of a core."""
    return statistics.median(
        run.cpu_us[group] if run.changes else run.percents[group] for run in runs
    )
