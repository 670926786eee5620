"""Options that several commands have."""

from typing import Annotated

import typer

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [env: HOST, 127.0.0.1]")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port to listen on.  [env: PORT, 8080]")
]
MetricsPort = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="Port to serve /metrics on.  [env: METRICS_PORT]"),
]
