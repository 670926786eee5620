"""Every slice there is, by name."""

from workers.slices import SliceFactory
from workers.ticker import Ticker


def make_factories() -> dict[str, SliceFactory]:
    """What makes each slice; the names of readers are those of the table `reader`."""
    return {
        "ticker": Ticker,
    }
