"""Runs `leadlog work` in a separate process."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from service.settings import Settings


@asynccontextmanager
async def worker_process(
    settings: Settings, log: Path, **environ: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs `leadlog work`, with its output in `log`; kills it at the end."""
    environ = {
        **os.environ,
        "DATABASE_URL": settings.require_database_url(),
        "REDIS_URL": settings.require_redis_url(),
        "SECRET_KEY": settings.secret_key or "",
        **environ,
    }
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service.cli.main", "work", env=environ, stdout=out, stderr=out
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
