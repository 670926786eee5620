"""`leadlog dev`: runs all of Leadlog on this machine."""

import os
import signal
from typing import Annotated

import typer

from service.cli.commands.options import Host, Port
from service.cli.interrupts import exit_on_interrupt
from service.settings import load_settings

EXAMPLE = "For example: leadlog dev --port 8081 --data-dir /tmp/leadlog"


def dev(
    host: Host = None,
    port: Port = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Folder for all data.  [env: DATA_DIR, .data]")
    ] = None,
    end_with_parent: Annotated[
        bool, typer.Option("--end-with-parent", hidden=True, help="Stop when `make` is killed.")
    ] = False,
) -> None:
    """Run all of Leadlog here, with its own PostgreSQL and Valkey. Ctrl-C stops it.

    Data, keys and logs stay in the data folder: the next start continues with them. If DATABASE_URL
    or REDIS_URL is set, that server is used instead.
    """
    with exit_on_interrupt():
        from service.cli.dev.console import DevConsole
        from service.cli.dev.run import run_dev
        from service.cli.launch import bind_to_parent
        from service.encryption import check_secret_key

    if end_with_parent:
        bind_to_parent(signal.SIGTERM)
    given = {"HOST": host, "PORT": port, "DATA_DIR": data_dir}
    options = {name: str(value) for name, value in given.items() if value}
    settings = load_settings({**os.environ, **options})
    check_secret_key(settings)
    run_dev(settings, os.environ, DevConsole())
