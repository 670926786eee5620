"""The start of `leadlog serve` and `leadlog work` while servers or settings are missing."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sql.migrate import migrate
from tests.harness.cluster import Cluster
from tests.service.cli.commandline import SECRET_KEY, Command, bare, leadlog
from tests.service.cli.devrun import PATIENCE_S, PROJECT, find_free_port, start_dev

__all__ = ["bare", "leadlog"]  # fixtures
UNREACHABLE = "redis://:geheim@127.0.0.1:1"


@dataclass
class Process:
    """A part of Leadlog; `lines` is its log so far."""

    process: asyncio.subprocess.Process
    url: str
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def wait_for(self, event: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while raw := await self.process.stdout.readline():
                self.lines.append(json.loads(raw))
                if self.lines[-1]["event"] == event:
                    return self.lines[-1]
        raise AssertionError(f"{event} did not come, but {self.lines}")

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Sends a request, again until the process listens, and returns the response."""
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(self.url + path, headers=headers) as answer:
                        return answer.status, await answer.json()
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)

    async def wait_until_ready(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.get("/health/ready"))[0] != 200:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.05)


@asynccontextmanager
async def start(part: str, database_url: str, redis_url: str, **env: str) -> AsyncIterator[Process]:
    port = find_free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.cli.main", part, stdout=asyncio.subprocess.PIPE, env={
            "PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "PORT": str(port),
            "DATABASE_URL": database_url, "REDIS_URL": redis_url, "SECRET_KEY": SECRET_KEY,
            "SHED_AFTER_S": "60", **env,
        },
    )  # fmt: skip
    try:
        yield Process(process, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()


async def test_serve_starts_before_migrate_and_reports_missing_migrations(
    cluster: Cluster, redis_url: str
) -> None:
    async with (
        cluster.make_database(template="template0") as dsn,
        start("serve", dsn, redis_url) as api,
    ):
        started = await api.wait_for("serve.starting")
        assert started["address"] == api.url
        assert started["version"]
        away = await api.wait_for("database.away")
        assert "run `leadlog migrate`" in away["reason"]
        status, ready = await api.get("/health/ready")
        assert (status, ready["status"]) == (503, "failing")
        assert "run `leadlog migrate`" in ready["checks"]["migrations"]
        key = f"Bearer sk_live_{'a' * 43}"
        status, refused = await api.get("/v1/leads", Authorization=key)
        assert status == 503
        assert "leadlog migrate" in refused["error"]["message"]
        await migrate(dsn)
        await api.wait_for("database.back")
        await api.wait_until_ready()


async def test_work_waits_for_migrate_and_reports_it_once(cluster: Cluster, redis_url: str) -> None:
    async with (
        cluster.make_database(template="template0") as dsn,
        start("work", dsn, redis_url) as worker,
    ):
        away = await worker.wait_for("database.away")
        assert "run `leadlog migrate`" in away["reason"]
        await asyncio.sleep(2)  # the time of some further checks
        await migrate(dsn)
        await worker.wait_for("worker.started")
        assert [line["event"] for line in worker.lines] == [
            "work.starting", "database.away", "database.back", "worker.started",
        ]  # fmt: skip


@pytest.mark.parametrize("part", ["serve", "work"])
async def test_an_unreachable_database_is_reported_in_one_line_without_its_password(
    part: str, redis_url: str
) -> None:
    dsn = "postgresql://leadlog:geheim@127.0.0.1:1/leadlog"
    async with start(part, dsn, redis_url) as process:
        away = await process.wait_for("database.away")
        assert "The database leadlog on 127.0.0.1:1 cannot be used" in away["reason"]
        assert "geheim" not in json.dumps(process.lines)


async def test_serve_without_a_secret_key_reports_it_and_is_not_ready(
    database_url: str, redis_url: str
) -> None:
    async with start("serve", database_url, redis_url, SECRET_KEY="") as api:
        line = await api.wait_for("secret_key.missing")
        assert "openssl rand" in line["reason"]
        status, ready = await api.get("/health/ready")
        assert status == 503
        assert "SECRET_KEY is not set" in ready["checks"]["secretKey"]


async def test_an_unknown_default_plan_is_reported(database_url: str, redis_url: str) -> None:
    async with start("serve", database_url, redis_url, DEFAULT_PLAN="nosuch") as api:
        assert "no plan 'nosuch'" in (await api.wait_for("default_plan.unknown"))["reason"]


async def test_work_reports_once_that_redis_cannot_be_reached(database_url: str) -> None:
    async with start("work", database_url, UNREACHABLE, LOG_LEVEL="warning") as worker:
        away = await worker.wait_for("redis.away")
        assert "Redis on 127.0.0.1:1 cannot be used" in away["reason"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await worker.wait_for("never")
        events = [(line["event"], line.get("job")) for line in worker.lines]
        assert len(events) == len(set(events))
        assert "geheim" not in json.dumps(worker.lines)


async def test_work_reports_a_redis_that_does_not_respond(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts and never sends a byte
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        async with start("work", database_url, f"redis://{where}") as worker:
            reason = (await worker.wait_for("redis.away"))["reason"]
    assert f"Redis on {where} cannot be used (Timeout reading from {where})" in reason


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"REDIS_URL": "foo"}, "REDIS_URL must be an address that begins with redis://"),
        ({"REDIS_URL": "redis://u:geheim@h:x"}, "REDIS_URL has a port that is not a number"),
        ({"REDIS_URL": "redis://u:geheim@h?nosuch=1"}, "REDIS_URL has an option after the ?"),
        ({"DATABASE_URL": "postgresql://u:geheim@h:x/y"}, "DATABASE_URL has a port that is not"),
        ({"DATABASE_URL": "mysql://u:geheim@h/x"}, "DATABASE_URL must be an address that begins"),
        (
            {"DATABASE_URL": "postgresql://u:geheim%w@rd@h:x/x"},
            "DATABASE_URL must have the special characters",
        ),
        ({"METRICS_TOKEN": "geheim"}, "METRICS_TOKEN: must have 16 characters or more"),
        ({"SECRET_KEY": "abc"}, "SECRET_KEY must be 32 random bytes in URL-safe base64"),
        ({"LOG_LEVEL": "verbose"}, "choose one of debug, info, warning, error"),
    ],
)
@pytest.mark.parametrize("command", ["dev", "serve", "work"])
def test_an_invalid_setting_is_reported_in_one_sentence(
    leadlog: Command, command: str, env: dict[str, str], words: str
) -> None:
    for name, value in env.items():
        leadlog.set(name, value)
    sentence = leadlog(command).sentence
    assert words in sentence
    assert "geheim" not in sentence


def test_a_metrics_port_that_is_taken_is_named(leadlog: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        leadlog.set("METRICS_PORT", str(listener.getsockname()[1]))
        sentence = leadlog("work").sentence
    assert "is taken: stop the program that uses it, or set METRICS_PORT to another" in sentence


async def test_dev_reports_that_its_redis_cannot_be_reached_and_serves(
    tmp_path: Path, cluster: Cluster
) -> None:
    async with cluster.make_database(template="template0") as dsn:
        env = {"DATABASE_URL": dsn, "REDIS_URL": UNREACHABLE}
        async with start_dev(tmp_path / "data", find_free_port(), env) as run:
            said = await run.wait_for("Redis on 127.0.0.1:1 cannot be reached")
            assert "check REDIS_URL" in said
            await run.wait_until_ready()
            made = run.call("POST", "/v1/leads", {"email": "ada@acme.com"})
            assert made["email"] == "ada@acme.com"
            assert "geheim" not in "".join(run.lines)
