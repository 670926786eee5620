"""`leadlog serve`: serves the API."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from service.cli.address import check_metrics_port, check_port, make_url
from service.cli.commands.options import Host, MetricsPort, Port
from service.cli.interrupts import exit_on_interrupt
from service.settings import load_settings

METRICS_PREFIX = "leadlog-metrics-"
"""The prefix of a shared folder's name; the process id of its owner follows."""

EXAMPLE = "For example: leadlog serve --host 0.0.0.0 --workers 4 --metrics-port 9100"


def serve(
    host: Host = None,
    port: Port = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes: about one per core is best.")
    ] = 1,
    metrics_port: MetricsPort = None,
) -> None:
    """Serve the API. Needs DATABASE_URL and REDIS_URL; run `leadlog migrate` first.

    With --workers N, N processes share the port. A process that dies is replaced. /metrics shows
    the sum of all processes, on the API's port or on the metrics port if one is given.

    SIGTERM stops it gracefully: /health/ready reports 503 for DRAIN_S seconds, then no new
    connection is accepted, and requests in progress have 8 seconds to finish.
    """
    with exit_on_interrupt():
        import uvicorn

        from service.cli.startup import log_start
        from service.http.server.protocol import make_protocol

    settings = load_settings(os.environ)
    settings.require_database_url()
    settings.require_redis_url()
    address = (host or settings.host, port or settings.port)
    check_port(*address)
    metrics_port = metrics_port or settings.metrics_port
    check_metrics_port(metrics_port, *address)
    if metrics_port is not None:
        os.environ["METRICS_PORT"] = str(metrics_port)  # for the processes of the API
    os.environ["API_PROCESSES"] = str(max(workers, settings.api_processes))
    log_start("serve", settings, address=make_url(*address), processes=workers)
    # uvicorn raises the signal again after its shutdown: this handler makes the exit code 0.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(0))
    with _share_metrics(workers):
        uvicorn.run(
            "service.cli.served_app:create_served_app",
            factory=True,
            host=address[0],
            port=address[1],
            workers=workers,
            loop="service.http.server.event_loop:EventLoop",
            http=make_protocol(settings),
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # the client's address is not used
            timeout_graceful_shutdown=8,
            # Longer than the 60 s of most proxies, so that the proxy closes idle connections.
            timeout_keep_alive=65,
            backlog=2048,
            timeout_worker_healthcheck=15,  # a process on a busy machine must not be killed
        )


@contextmanager
def _share_metrics(workers: int) -> Iterator[None]:
    """Creates the folder in which several processes share their counters, unless one is set."""
    if workers == 1 or os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        yield
        return
    remove_orphaned_folders(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"{METRICS_PREFIX}{os.getpid()}-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


def remove_orphaned_folders(parent: Path) -> None:
    """Removes the metrics folders that killed `leadlog serve` processes have left."""
    for folder in parent.glob(f"{METRICS_PREFIX}*-*"):
        pid = folder.name.removeprefix(METRICS_PREFIX).partition("-")[0]
        with suppress(OSError):  # another user's folder, or one removed meanwhile
            is_ours = folder.lstat().st_uid == os.geteuid() and not folder.is_symlink()
            if is_ours and pid.isdecimal() and not _is_running(int(pid)):
                shutil.rmtree(folder)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
