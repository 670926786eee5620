"""All jobs by name."""

from functools import partial

from service.settings import Settings
from workers.dispatcher import Dispatcher
from workers.fanout import Fanout
from workers.janitor import Janitor
from workers.jobs import JobFactory
from workers.publisher import Publisher
from workers.reconciler import Reconciler
from workers.replayer import Replayer
from workers.scorer import Rescorer, Scorer
from workers.search_maintenance import SearchMaintenance
from workers.ticker import Ticker
from workers.timeline_writer import TimelineWriter


def make_factories(settings: Settings) -> dict[str, JobFactory]:
    """The factory of each job. The names of readers are those in the table `reader`.

    Without SECRET_KEY this process cannot sign webhooks and leaves them to other processes.
    """
    parts = settings.webhook_dispatchers
    return {
        "ticker": Ticker,
        "scorer": Scorer,
        "rescorer": Rescorer,
        "timeline_writer": TimelineWriter,
        "janitor": Janitor,
        "search_maintenance": SearchMaintenance,
        "fanout": Fanout,
        "publisher": Publisher,
        "replayer": Replayer,
        "reconciler": Reconciler,
        **{
            f"dispatcher/{n}": partial(Dispatcher, name=f"dispatcher/{n}", part=n, parts=parts)
            for n in range(parts if settings.secret_key else 0)
        },
    }
