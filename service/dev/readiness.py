"""When `leadlog dev` may say that it is ready: the API answers and the workers have begun."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import sql
from service.address import find_reachable_host, make_url
from service.dev.supervisor import Command, describe_exit
from service.processes import StartError
from service.settings import Settings
from sql.connection import connect

READY_WITHIN_S = 60.0
POLL_S = 0.05


async def wait_until_ready(
    settings: Settings, database_url: str, commands: Sequence[Command]
) -> None:
    """StartError when a command ends before, or when time runs out."""
    deadline = time.monotonic() + READY_WITHIN_S
    async with connect(database_url) as conn:
        while not await _answers(settings) or await conn.fetch(sql.slice_list_idle):
            for command in commands:
                if (code := command.poll()) is not None:
                    raise StartError(
                        f"{command.title} {describe_exit(code)} at its start: its log is above."
                    )
            if time.monotonic() > deadline:
                raise StartError(
                    f"Leadlog was not ready within {READY_WITHIN_S:g} s: the log above tells why, "
                    f"and so may {make_url(settings.host, settings.port)}/health/ready."
                )
            await asyncio.sleep(POLL_S)


async def _answers(settings: Settings) -> bool:
    """Whether /health/ready says yes."""
    host = find_reachable_host(settings.host)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, settings.port)
            try:
                head = f"GET /health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    return False
