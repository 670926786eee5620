"""`leadlog listen` ends on a signal and on a closed pipe, and removes its webhook."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from service.cli.listen.api_client import ApiAccess, open_api
from service.cli.listen.ending import has_reader
from service.cli.listen.listening import register
from service.cli.processes import StartError
from tests.harness.api_client import Api

PATIENCE_S = 60.0
SIGNAL_AT_ONCE = """
import os, signal, sys
from service.cli.commands import listen
from service.cli.main import main

def end(text):
    print(text, file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGINT)

listen._report = end
main()
"""


async def start(api: Api, *program: str, stdout: int) -> asyncio.subprocess.Process:
    """Starts `leadlog listen` with SIGINT ignored, as a shell starts a background program."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *program, "listen", "--url", api.url, "--key", str(api.key),
        stdout=stdout, stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip


async def test_a_signal_right_after_the_registration_ends_listen(api: Api) -> None:
    process = await start(api, "-c", SIGNAL_AT_ONCE, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_S):
        _, err = await process.communicate()
    own_url = err.decode().split()[2].rstrip(";")
    assert (process.returncode, err.count(b"\n")) == (0, 1)
    assert own_url not in (await api.get("/v1/webhooks")).body.decode()


@pytest.mark.parametrize("with_event", [False, True])
async def test_a_closed_pipe_ends_listen(
    api: Api, session: aiohttp.ClientSession, with_event: bool
) -> None:
    """The pipe is closed as in `leadlog listen | head -1`."""
    reader, writer = os.pipe()
    process = await start(api, "-m", "service.cli.main", stdout=writer)
    os.close(writer)
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        own_url = (await process.stderr.readline()).decode().split()[2].rstrip(";")
        assert own_url in (await api.get("/v1/webhooks")).body.decode()
        os.close(reader)
        if with_event:
            try:
                async with session.post(own_url, data=b"{}") as response:
                    assert response.status == 400  # not signed
            except aiohttp.ClientConnectionError:
                pass  # listen has ended already
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert own_url not in (await api.get("/v1/webhooks")).body.decode()


def test_a_pipe_has_a_reader_until_it_is_closed(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        assert has_reader(writer)
        os.close(reader)
        assert not has_reader(writer)
    finally:
        os.close(writer)
    with (tmp_path / "file").open("w") as file:
        assert has_reader(file.fileno())


@asynccontextmanager
async def run_api(statuses: list[int]) -> AsyncIterator[str]:
    """An API that registers a webhook; its deletion gets these statuses, and for 0 no response."""
    is_over = asyncio.Event()

    async def create(_: web.Request) -> web.Response:
        return web.json_response(
            {"id": "wh_1", "secret": "whsec_x", "createdAt": "2026-11-30T00:00:00Z"}
        )

    async def delete(_: web.Request) -> web.Response:
        status = statuses.pop(0)
        if status == 0:
            await is_over.wait()
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/v1/webhooks", create)
    app.router.add_delete("/v1/webhooks/wh_1", delete)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        is_over.set()
        await runner.cleanup()


@pytest.mark.parametrize("last", [204, 404])
async def test_the_removal_of_a_webhook_is_retried_until_it_succeeds(
    last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.listen.listening.RETRY_S", 0.01)
    statuses = [503, 503, last]
    async with (
        run_api(statuses) as url,
        open_api(ApiAccess(url, "sk_live_x")) as client,
        register(client, "http://127.0.0.1:1/", []),
    ):
        pass
    assert statuses == []


@pytest.mark.parametrize(("status", "reason"), [(0, "no response within"), (503, "status 503")])
async def test_a_webhook_that_cannot_be_removed_is_named(
    status: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.listen.listening.UNREGISTER_S", 1.0)
    async with run_api([status] * 10) as url, open_api(ApiAccess(url, "sk_live_x")) as client:
        with pytest.raises(StartError, match=rf"webhook wh_1 could not be removed \({reason}"):
            async with register(client, "http://127.0.0.1:1/", []):
                pass
