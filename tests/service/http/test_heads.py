"""The head of a request has its bounds too: in time, against a slow loris, and in length."""

import asyncio

import pytest

from service.http import protocol
from tests.rawhttp import connect, make_request
from tests.serving import Api


@pytest.mark.parametrize("sent", [b"", b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_does_not_end_is_hung_up_on(
    api: Api, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.2)
    async with connect(api.url) as wire:
        await wire.send(sent)
        assert await wire.ends()


async def test_a_second_request_has_its_own_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.3)
    async with connect(api.url) as wire:
        await wire.send(make_request("GET", "/health/live"))
        assert (await wire.read_answer()).status == 200
        await asyncio.sleep(0.4)  # idle between two requests is the keep-alive's business
        await wire.send(make_request("GET", "/health/live"))
        assert (await wire.read_answer()).status == 200
        await wire.send(b"GET /health/live HTTP/1.1\r\n")
        assert await wire.ends()


async def test_a_head_without_end_is_refused(api: Api) -> None:
    async with connect(api.url) as wire:
        await wire.send(b"GET /health/live HTTP/1.1\r\nX-Long: " + b"v" * 300_000)
        assert (await wire.read_answer()).status == 400
