"""Leadlog on a full disk: reads succeed, writes get 503 until there is free space again."""

import asyncio
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.small_disk import filled, mount_small_disk
from tests.service.cli.devrun import DevRun, find_free_port, start_dev

SIZE = 400 * 1024 * 1024
PATIENCE_S = 60.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mount_small_disk(tmp_path / "disk", SIZE) as folder:
        yield folder


async def create(run: DevRun, number: int) -> int:
    """Creates a large lead; returns the status of the response."""
    body = {"email": f"lead{number}@acme.com", "customFields": {"text": f"{number} " * 1500}}
    try:
        await asyncio.to_thread(run.call, "POST", "/v1/leads", body)
    except urllib.error.HTTPError as error:
        return error.code
    return 201


async def test_on_a_full_disk_reads_succeed_and_writes_get_503(disk: Path) -> None:
    async with start_dev(disk / "data", find_free_port(), {"LOG_LEVEL": "error"}) as run:
        await run.wait_until_ready()
        lead = run.call("POST", "/v1/leads", {"email": "ada@acme.com"})
        before = {process.pid for process in psutil.Process(run.process.pid).children()}
        with filled(disk):
            statuses = [await create(run, number) for number in range(300)]
            assert set(statuses) <= {201, 503}
            assert set(statuses[-50:]) == {503}
            ready = await asyncio.to_thread(run.call, "GET", "/health/ready")
            assert ready["status"] == "degraded"
            assert "the disk of the database is full" in ready["checks"]["disk"]
            found = await asyncio.to_thread(run.call, "GET", f"/v1/leads/{lead['id']}")
            assert found["email"] == "ada@acme.com"
        async with asyncio.timeout(PATIENCE_S):
            while await create(run, 1000) != 201:  # noqa: ASYNC110  # the change happens in other processes
                await asyncio.sleep(0.1)
        accepted = 2 + statuses.count(201)
        listed = await asyncio.to_thread(run.call, "GET", "/v1/leads?limit=1")
        assert listed["pagination"]["total"] == accepted
        # No process died. One would, for example, if a mapped file could not grow.
        assert {process.pid for process in psutil.Process(run.process.pid).children()} == before
