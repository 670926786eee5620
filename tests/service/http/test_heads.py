"""The head of a request is limited in time (against a slow loris) and in length."""

import asyncio

import pytest

from service.http.server import protocol
from tests.harness.api_client import Api
from tests.loopback.raw_http import connect, make_request


@pytest.mark.parametrize("sent", [b"", b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_connection_whose_head_does_not_end_is_closed(
    api: Api, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.2)
    async with connect(api.url) as wire:
        await wire.send(sent)
        assert await wire.ends()


async def test_a_second_request_has_its_own_timeout(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.3)
    async with connect(api.url) as wire:
        await wire.send(make_request("GET", "/health/live"))
        assert (await wire.read_response()).status == 200
        await asyncio.sleep(0.4)  # only the keep-alive limits the time between requests
        await wire.send(make_request("GET", "/health/live"))
        assert (await wire.read_response()).status == 200
        await wire.send(b"GET /health/live HTTP/1.1\r\n")
        assert await wire.ends()


async def test_a_head_that_is_too_long_is_refused(api: Api) -> None:
    async with connect(api.url) as wire:
        await wire.send(b"GET /health/live HTTP/1.1\r\nX-Long: " + b"v" * 300_000)
        assert (await wire.read_response()).status == 400
