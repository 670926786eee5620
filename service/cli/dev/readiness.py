"""Waits until the API responds and the workers run, so that `leadlog dev` can report ready."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import sql
from service.cli.address import find_reachable_host, make_url
from service.cli.dev.supervisor import Command
from service.cli.processes import StartError, describe_exit
from service.settings import Settings
from sql.connection import connect
from sql.errors import DatabaseError

READY_WITHIN_S = 60.0
POLL_S = 0.05


async def wait_until_ready(
    settings: Settings, database_url: str, commands: Sequence[Command]
) -> None:
    """Waits for the API and the readers. Raises StartError if a command ends or time runs out."""
    host = find_reachable_host(settings.host)
    deadline = time.monotonic() + READY_WITHIN_S
    while not await is_ready(host, settings.port) or not await _are_readers_running(database_url):
        for command in commands:
            code = command.poll()
            if code is not None and code > 0:  # a killed command is started again
                raise StartError(
                    f"{command.title} {describe_exit(code)} at its start: its log is above."
                )
        if time.monotonic() > deadline:
            raise StartError(
                f"Leadlog was not ready within {READY_WITHIN_S:g} s: the log above shows why, "
                f"and so may {make_url(settings.host, settings.port)}/health/ready."
            )
        await asyncio.sleep(POLL_S)


async def _are_readers_running(database_url: str) -> bool:
    """Whether every reader of the log is run by a worker."""
    try:
        async with connect(database_url) as conn:
            return not await conn.fetch(sql.job_list_idle)
    except DatabaseError:  # the server was killed and is being restarted
        return False


async def is_ready(host: str, port: int) -> bool:
    """Whether /health/ready responds with 200."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                head = f"GET /health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    return False
