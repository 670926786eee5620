"""Every slice there is, by name."""

from functools import partial

from service.settings import Settings
from workers.dispatcher import Dispatcher
from workers.fanout import Fanout
from workers.historian import Historian
from workers.indexer import Indexer
from workers.janitor import Janitor
from workers.publisher import Publisher
from workers.reconciler import Reconciler
from workers.replayer import Replayer
from workers.scorer import Rescorer, Scorer
from workers.slices import SliceFactory
from workers.ticker import Ticker


def make_factories(settings: Settings) -> dict[str, SliceFactory]:
    """What makes each slice; the names of readers are those of the table `reader`."""
    parts = settings.webhook_dispatchers
    return {
        "ticker": Ticker,
        **{f"scorer/{n}": partial(Scorer, name=f"scorer/{n}") for n in range(2)},
        "rescorer": Rescorer,
        "historian/0": partial(Historian, name="historian/0"),
        "janitor": Janitor,
        "indexer": Indexer,
        **{f"fanout/{n}": partial(Fanout, name=f"fanout/{n}") for n in range(2)},
        "publisher/0": Publisher,
        "replayer": Replayer,
        "reconciler": Reconciler,
        **{
            f"dispatcher/{n}": partial(Dispatcher, name=f"dispatcher/{n}", part=n, parts=parts)
            for n in range(parts)
        },
    }
