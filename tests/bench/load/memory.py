"""Resident memory of a server's processes while it is under load."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

from service.cli.dev.tuning import MIB

SAMPLE_S = 0.25


@dataclass
class Peak:
    """The largest resident memory of any one process."""

    rss_mib: float = 0.0


@asynccontextmanager
async def watch_memory(pid: int) -> AsyncIterator[Peak]:
    """Samples the process and its children every SAMPLE_S until the context ends."""
    peak = Peak()
    watching = asyncio.create_task(_watch(pid, peak))
    try:
        yield peak
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(pid: int, peak: Peak) -> None:
    while True:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for each in (process, *process.children(recursive=True)):
                peak.rss_mib = max(peak.rss_mib, each.memory_info().rss / MIB)
        await asyncio.sleep(SAMPLE_S)
