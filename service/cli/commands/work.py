"""`leadlog work`: runs the workers."""

import os
import sys

import msgspec

from service.cli.address import check_port
from service.cli.commands.options import MetricsPort
from service.cli.interrupts import exit_on_interrupt
from service.settings import load_settings

EXAMPLE = "For example: leadlog work --metrics-port 9101"


def work(metrics_port: MetricsPort = None) -> None:
    """Run the workers: scores, webhooks, CRM streams, retention. Run one or more such processes.

    With a metrics port the workers serve /metrics there. On one machine,
    `leadlog serve` and each `leadlog work` need different metrics ports.
    """
    with exit_on_interrupt():
        from service.cli.startup import log_start
        from workers.main import main

    settings = load_settings(os.environ)
    if metrics_port is not None:
        settings = msgspec.structs.replace(settings, metrics_port=metrics_port)
    if settings.metrics_port is not None:
        check_port(settings.host, settings.metrics_port, "METRICS_PORT")
    settings.require_database_url()
    settings.require_redis_url()
    log_start("work", settings)
    sys.exit(main(settings))
