"""A picture of a run's rates, drawn if matplotlib is installed."""

from importlib.util import find_spec
from pathlib import Path

from tests.bench.output.results import Results
from tests.bench.plan import WORKLOADS


def plot_results(results: Results, path: Path) -> bool:
    """Bars of requests per second at the smallest table; False without matplotlib."""
    if find_spec("matplotlib") is None:
        return False
    import matplotlib as mpl  # noqa: PLC0415  # optional

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    leads = results.options.sizes[0]
    rows = [row for row in results.rows if row.act == "capacity" and row.leads == leads]
    found = [work for work in WORKLOADS if any(row.workload == work.name for row in rows)]
    if not found:
        return False
    figure, axes = plt.subplots(1, len(found), figsize=(2.6 * len(found), 3.6), squeeze=False)
    for axis, workload in zip(axes[0], found, strict=True):
        bars = [row for row in rows if row.workload == workload.name]
        rates = [bar.per_second for bar in bars]
        below = [rate.median - rate.low for rate in rates]
        above = [rate.high - rate.median for rate in rates]
        axis.bar(
            [bar.contestant for bar in bars], [rate.median for rate in rates],
            yerr=[below, above], capsize=3, color=[_choose_colour(bar.contestant) for bar in bars],
        )  # fmt: skip
        axis.set_title(workload.title, fontsize=10)
        axis.tick_params(axis="x", rotation=60, labelsize=8)
        axis.tick_params(axis="y", labelsize=8)
    axes[0][0].set_ylabel("per second")
    figure.suptitle(f"{leads:,} leads, {results.scene.cores} cores, medians and spread")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def _choose_colour(contestant: str) -> str:
    return "tab:blue" if contestant.startswith("service") else "lightgray"
