"""The app in a process of `leadlog serve`."""

import os
import signal
from multiprocessing import parent_process

from starlette.types import ASGIApp

from service.app import create_app
from service.cli.launch import bind_to_parent
from service.settings import load_settings


def create_served_app() -> ASGIApp:
    """Creates the app for a process of `leadlog serve`, with a graceful shutdown on a signal."""
    if (parent := parent_process()) is not None:  # one of several: it must end with its supervisor
        bind_to_parent(signal.SIGTERM, parent.pid)
    settings = load_settings(os.environ)
    return create_app(settings, ends_on_signals=True)
