"""Every due response is sent, in order, and then the connection is closed correctly."""

import asyncio
import json
import secrets
import socket
from urllib.parse import urlsplit

import pytest

from service.http.server import protocol
from tests.harness.api_client import Api
from tests.loopback.raw_http import connect, make_request

GARBAGE = b"\x16\x03\x01 garbage\r\n\r\n"


def make_post(api: Api, *lines: str) -> bytes:
    lead = {"email": f"{secrets.token_hex(8)}@order.example.com"}
    return make_request("POST", "/v1/leads", *lines, key=api.key, body=json.dumps(lead).encode())


async def test_the_refusal_of_garbage_is_sent_after_all_due_responses(api: Api) -> None:
    for count in (1, 3, 70):
        async with connect(api.url) as wire:
            await wire.send(
                b"".join(make_post(api) for _ in range(count)) + GARBAGE + b"x" * 100_000
            )
            answers = [await wire.read_response() for _ in range(count + 1)]
            assert [each.status for each in answers] == [201] * count + [400]
            assert answers[-1].error["code"] == "invalid_request"
            assert answers[-1].error["doc_url"]
            assert answers[-1].headers["x-request-id"].startswith("req_")
            assert answers[-1].headers["content-type"] == "application/json"
            assert answers[-1].headers["connection"] == "close"
            assert await wire.ends()


async def test_a_body_that_becomes_invalid_gets_one_response(api: Api) -> None:
    head = make_request("POST", "/v1/leads", "Transfer-Encoding: chunked", key=api.key)
    for first in (head + b"2\r\n{}\r\nxyz\r\n", head):
        async with connect(api.url) as wire:
            await wire.send(first)
            await wire.send(b"xyz\r\n")
            answer = await wire.read_response()
            assert (answer.status, answer.error["details"][0]["code"]) == (400, "incomplete")
            assert await wire.ends()
    async with connect(api.url) as wire:  # the response was sent: nothing may follow
        await wire.send(head.replace(b"Bearer", b"Bear") + b"2\r\n{}\r\n")
        assert (await wire.read_response()).status == 401
        await wire.send(b"xyz\r\n")
        assert await wire.ends()


@pytest.mark.parametrize("count", [1, 5])
async def test_a_client_that_sends_no_more_still_gets_its_responses(api: Api, count: int) -> None:
    async with connect(api.url) as wire:
        await wire.send(b"".join(make_post(api) for _ in range(count)))
        wire.send_eof()
        assert [(await wire.read_response()).status for _ in range(count)] == [201] * count
        assert await wire.ends()
    async with connect(api.url) as wire:
        await wire.send(make_post(api)[:-3])
        wire.send_eof()
        answer = await wire.read_response()
        assert (answer.status, answer.error["details"][0]["code"]) == (400, "incomplete")
        assert await wire.ends()
    for sent in (b"", b"GET / HT"):
        async with connect(api.url) as wire:
            await wire.send(sent)
            wire.send_eof()
            assert await wire.ends()


async def test_input_after_the_last_request_of_a_connection_is_ignored(api: Api) -> None:
    for last in ("Connection: close", "connection: x, Close"):
        async with connect(api.url) as wire:
            await wire.send(make_request("GET", "/health/live", last) + make_post(api) * 2)
            assert (await wire.read_response()).status == 200
            assert await wire.ends()
    old = make_request("GET", "/health/live", "Connection: keep-alive").replace(b"1.1", b"1.0", 1)
    async with connect(api.url) as wire:
        await wire.send(old + old)
        assert (await wire.read_response()).headers["connection"] == "close"
        assert await wire.ends()


@pytest.mark.parametrize("drip", [b"x", b"GET /", b"\r\n"])
async def test_a_connection_whose_body_or_head_does_not_end_is_closed(
    api: Api, monkeypatch: pytest.MonkeyPatch, drip: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(protocol, "LINGER_S", 0.3)
    head = make_request("POST", "/v1/leads", "Content-Length: 1000000")
    begun = head if drip == b"x" else make_request("GET", "/health/live")
    async with connect(api.url) as wire:
        await wire.send(begun)
        await wire.read_response()
        await wire.send(drip)
        ending = asyncio.create_task(wire.ends())
        while not ending.done() and drip != b"\r\n":
            await wire.send(b"x")
            await asyncio.sleep(0.05)
        if drip == b"\r\n":  # an empty line begins no head: the connection stays idle
            await asyncio.sleep(1)
            assert not ending.done()
            ending.cancel()
            return
        assert await ending


@pytest.mark.parametrize("old", [False, True])
async def test_a_slow_reader_gets_the_whole_last_response_although_it_continues_to_send(
    api: Api, old: bool
) -> None:
    parts = urlsplit(api.url)
    request = make_request("GET", "/openapi.json", "Connection: close")
    if old:
        request = make_request("GET", "/openapi.json").replace(b"1.1", b"1.0", 1)

    def talk() -> bytes:
        with socket.socket() as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.settimeout(20)
            wire.connect((parts.hostname, parts.port))
            wire.sendall(request + b"x" * 300_000)
            found = b""
            while data := wire.recv(4096):
                found += data
            return found

    head, _, body = (await asyncio.to_thread(talk)).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}\r\n".encode() in head + b"\r\n"


async def test_a_refusal_reaches_a_client_that_continues_to_send(api: Api) -> None:
    parts = urlsplit(api.url)

    def talk() -> bytes:
        with socket.create_connection((parts.hostname, parts.port)) as wire:
            wire.settimeout(5)
            wire.sendall(GARBAGE + b"x" * 500_000)
            found = b""
            while data := wire.recv(65536):
                found += data
            return found

    for _ in range(5):
        assert (await asyncio.to_thread(talk)).startswith(b"HTTP/1.1 400")
