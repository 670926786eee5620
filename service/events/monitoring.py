"""The health of the workers from the database: for /health/ready, metrics and `leadlog doctor`.

The API and the commands read it, because a dead worker reports nothing.
"""

import msgspec

import sql
from service.database.connect import Connection
from service.telemetry.metrics import READER_LAG_SECONDS, WORKERS_ALIVE

GRACE_S = 10.0
"""The leases of a killed worker end within 5 s; this many seconds later its jobs count as idle."""
LAG_LIMIT_S = 30.0
HINT = "is `leadlog work` running?"


class WorkerHealth(msgspec.Struct, frozen=True):
    """The state of all worker processes together.

    `alive` counts the worker processes that hold a lease. `silent_s` is the time since the last
    lease ended, None if there has never been one. `idle` names the required jobs that no worker
    runs. `lags` maps each reader of the log to the seconds that it is behind.
    """

    alive: int
    silent_s: float | None
    idle: list[str]
    lags: dict[str, float]


async def read_worker_health(conn: Connection) -> WorkerHealth:
    """Read the health of the workers from leases and ticks, by the database's clock."""
    row = await conn.fetchrow(sql.worker_get_health, GRACE_S)
    if row is None:
        raise LookupError("an aggregate has a row")
    lags = {row["name"]: row["lag_s"] for row in await conn.fetch(sql.reader_lag)}
    return WorkerHealth(row["alive"], row["silent_s"], row["idle"], lags)


def find_worker_faults(health: WorkerHealth) -> dict[str, str]:
    """Describe the faults of `workers` and `readers` in a sentence each; empty without faults."""
    faults = {}
    if not health.alive:
        silent_s = health.silent_s
        since = "yet" if silent_s is None else f"for {silent_s:.0f} s"
        faults["workers"] = f"no worker process has been seen {since}; {HINT}"
    elif health.idle:
        faults["workers"] = f"no worker runs {', '.join(health.idle)}; see the workers' log"
    late = [f"{name} {lag:.0f} s" for name, lag in health.lags.items() if lag > LAG_LIMIT_S]
    if late:
        hint = "see the workers' log" if health.alive else HINT
        faults["readers"] = f"behind: {', '.join(late)}; {hint}"
    return faults


def set_gauges(health: WorkerHealth) -> None:
    """Set the gauges of the workers in /metrics."""
    WORKERS_ALIVE.set(health.alive)
    for name, lag_s in health.lags.items():
        READER_LAG_SECONDS.labels(name).set(lag_s)
