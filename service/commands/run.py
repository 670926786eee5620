"""Commands that run Leadlog or a part of it."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from service.settings import load_settings

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [env: HOST, 127.0.0.1]")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port to listen on.  [env: PORT, 8080]")
]


def dev(
    host: Host = None,
    port: Port = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder for everything kept.  [env: DATA_DIR, .data]")
    ] = None,
    end_with_parent: Annotated[
        bool, typer.Option("--end-with-parent", hidden=True, help="Stop when `make` is killed.")
    ] = False,
) -> None:
    """Run all of Leadlog here, with its own PostgreSQL and Valkey; Ctrl-C stops it.

    Data, keys and logs are in the data folder; the next start goes on with them. DATABASE_URL or
    REDIS_URL, if set, name servers of yours to be used instead.
    """
    from service.dev.run import run_dev
    from service.dev.welcome import Announcer
    from service.launch import bind_to_parent

    if end_with_parent:
        bind_to_parent(signal.SIGTERM)
    given = {"host": host, "port": port, "data_dir": data_dir}
    settings = msgspec.structs.replace(
        load_settings(os.environ), **{name: value for name, value in given.items() if value}
    )
    run_dev(settings, os.environ, Announcer())


def serve(
    host: Host = None,
    port: Port = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; about one per core is best.")] = 1,
) -> None:
    """Serve the API. Needs DATABASE_URL and REDIS_URL; `leadlog migrate` goes first.

    With --workers N, N processes share the port; one that dies is replaced, and /metrics adds up
    all. SIGTERM ends it in order: /health/ready says no for DRAIN_S seconds, then no connection is
    taken any more, and requests under way have 8 seconds to finish.
    """
    import uvicorn

    from service.address import check_port
    from service.http.protocol import OneWriteProtocol

    settings = load_settings(os.environ)
    settings.require_database_url()
    settings.require_redis_url()
    address = (host or settings.host, port or settings.port)
    check_port(*address)
    # The server raises the signal again when all is done: that is the end it was told to come to.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(0))
    with _share_metrics(workers):
        uvicorn.run(
            "service.app:create_served_app",
            factory=True,
            host=address[0],
            port=address[1],
            workers=workers,
            loop="uvloop",
            http=OneWriteProtocol,
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # nothing here asks for the caller's address
            timeout_graceful_shutdown=8,
            # Longer than the 60 s of most proxies, so that it is they who close an idle connection.
            timeout_keep_alive=65,
            backlog=2048,
            timeout_worker_healthcheck=15,  # a busy machine is no reason to kill a process
        )


@contextmanager
def _share_metrics(workers: int) -> Iterator[None]:
    """A folder in which several processes keep their counters, unless the operator gave one."""
    if workers == 1 or os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="leadlog-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


def work() -> None:
    """Run the workers: scores, webhooks, the CRM stream, retention. Run it once or more often."""
    from workers.main import main

    settings = load_settings(os.environ)
    settings.require_database_url()
    settings.require_redis_url()
    sys.exit(main(settings))
