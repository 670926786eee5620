"""The common parts of the webhook measurements: servers, processes and filled tables."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

import sql
from service.access.api_keys import create_key
from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Postgres, Valkey
from service.encryption import open_encryptor
from service.settings import Settings
from service.webhooks.endpoints import NewEndpoint, create_endpoint
from sql.migrate import migrate

BODY = json.dumps(
    {
        "id": "evt_x", "type": "lead.created", "apiVersion": "2026-01-15",
        "createdAt": "2026-11-22T00:00:00.000Z", "data": {"pad": "x" * 900},
    }
).encode()  # fmt: skip


@dataclass
class Stage:
    """Servers, and a connection to the database."""

    settings: Settings
    conn: asyncpg.Connection
    postgres_pid: int
    valkey_pid: int


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Starts our own servers in a temporary folder."""
    folder = prepare_folder(Path(tempfile.mkdtemp(prefix="leadlog-bench-")))
    try:
        async with Postgres(folder) as postgres, Valkey(folder) as valkey:
            await migrate(postgres.dsn)
            conn = await asyncpg.connect(postgres.dsn)
            settings = Settings(
                database_url=postgres.dsn, redis_url=valkey.url, secret_key="A" * 43 + "=",
                webhook_allow_private=True,
            )  # fmt: skip
            yield Stage(settings, conn, postgres.pid, valkey.pid)
            await conn.close()
    finally:
        shutil.rmtree(folder)


@dataclass
class Process:
    """A program of ours that reads and prints lines."""

    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ask(self) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        return json.loads(await self.process.stdout.readline())

    async def read_line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    def read_peak_mb(self) -> float:
        """The peak memory of the process since its start."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in text.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


@asynccontextmanager
async def start(settings: Settings, *arguments: str) -> AsyncIterator[Process]:
    """Starts a Python program with our settings in its environment; kills it at the end."""
    environ = os.environ | {
        "DATABASE_URL": settings.require_database_url(),
        "REDIS_URL": settings.require_redis_url(),
        "SECRET_KEY": settings.secret_key or "",
        "WEBHOOK_ALLOW_PRIVATE": "true",
        "LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environ, limit=2**27,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def make_tenant(conn: asyncpg.Connection, name: str) -> int:
    tenant_id: int = await conn.fetchval(sql.tenant_insert, name)
    await create_key(conn, tenant_id, True, "bench", "admin")
    return tenant_id


async def make_endpoint(
    conn: asyncpg.Connection, settings: Settings, tenant_id: int, url: str
) -> str:
    async with conn.transaction():
        new = NewEndpoint(url=url, events=["lead.created"])
        made = await create_endpoint(conn, open_encryptor(settings), tenant_id, True, new)
    return made.id


async def fill_deliveries(
    conn: asyncpg.Connection, tenant_id: int, endpoints: Sequence[str], count: int
) -> None:
    """`count` pending deliveries spread evenly over the endpoints, an event for each lead."""
    await conn.execute("SET statement_timeout = 0")
    per_endpoint = count // len(endpoints)
    async with conn.transaction():
        await conn.execute(
            "INSERT INTO webhook_event (tenant_id, live, event_id, stored_at, type, lead_id, "
            "version, body) SELECT $1, true, 'evt_' || n, now(), 'lead.created', 'lead_' || n, 1, "
            "$2 FROM generate_series(1, $3::integer) AS n",
            tenant_id, BODY, per_endpoint,
        )  # fmt: skip
        await conn.execute(
            "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, "
            "lead_id, version, due_at, created_at) SELECT $1, true, e.id, 'evt_' || n, now(), "
            "'lead.created', 'lead_' || n, 1, now(), now() FROM generate_series(1, $3::integer) n "
            "CROSS JOIN unnest($2::text[]) AS e (id)",
            tenant_id, list(endpoints), per_endpoint,
        )  # fmt: skip
    await conn.execute("VACUUM ANALYZE delivery")


async def clear(conn: asyncpg.Connection) -> None:
    await conn.execute(
        "TRUNCATE delivery, delivery_final, attempt, webhook_event, endpoint, lease CASCADE"
    )  # else the next worker would wait for leases of a killed worker


def find_percentile(samples: Sequence[float], percent: float) -> float:
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]
