"""Attempts against misbehaving receivers, each a real server on loopback."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.loopback.misbehaving_servers import BOMB, HEAD, MISBEHAVIOURS, run_server, write
from tests.loopback.raw_server import make_endpoint_config
from tests.loopback.receiver import run_receiver
from workers.delivery.connections import Connections
from workers.delivery.http_connection import MAX_KEPT_BYTES
from workers.delivery.retry import MAX_PAUSE_S, MIN_PAUSE_S, PROFILES, AttemptResult, decide
from workers.delivery.sender import Attempt, send

TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Connections]:
    connections = Connections(private=True)
    yield connections
    await connections.close()


async def send_once(client: Connections, url: str, timeout_s: float = TIMEOUT_S) -> Attempt:
    endpoint = make_endpoint_config(url, timeout_s=timeout_s)
    return await send(client, endpoint, "evt_1", 1, b"{}")


@pytest.mark.parametrize("name", MISBEHAVIOURS)
async def test_an_attempt_is_bounded_in_time_and_size(client: Connections, name: str) -> None:
    behave, status, error = MISBEHAVIOURS[name]
    async with run_server(behave) as url:
        started_at = time.monotonic()
        attempt = await send_once(client, url)
        assert time.monotonic() - started_at < TIMEOUT_S + 1
    assert (attempt.status, attempt.error) == (status, error)
    assert len(attempt.body or b"") <= MAX_KEPT_BYTES


async def test_a_gzip_bomb_is_not_decompressed(client: Connections) -> None:
    async with run_server(MISBEHAVIOURS["sends a gzip bomb"][0]) as url:
        attempt = await send_once(client, url)
    assert len(BOMB) > MAX_KEPT_BYTES
    assert (attempt.body, attempt.truncated) == (BOMB[:MAX_KEPT_BYTES], True)


@pytest.mark.parametrize(
    ("text", "pause_s"),
    [
        ("1", 1.0), ("120", 120.0), ("0.5", MIN_PAUSE_S), ("-5", MIN_PAUSE_S), ("1e309", 0.0),
        ("99999999999", MAX_PAUSE_S), ("soon", 0.0), ("", 0.0), ("a" * 101, 0.0),
        ("Wed, 21 Oct 9999 07:28:00 GMT", MAX_PAUSE_S),
        ("Wed, 21 Oct 2015 07:28:00 GMT", MIN_PAUSE_S),
        ("{in_an_hour}", 3600.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_pauses_the_lane_within_bounds(
    client: Connections, status: int, text: str, pause_s: float
) -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    text = text.format(in_an_hour=in_an_hour)
    head = f"HTTP/1.1 {status} No\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n"
    async with run_server(write(head.encode())) as url:
        attempt = await send_once(client, url)
    result = AttemptResult(attempt.status, attempt.error, attempt.retry_after, attempt.control)
    decision = decide(result, PROFILES["standard"], 1, None, datetime.now(UTC))
    assert (decision.outcome, decision.disable) == ("retry", None)
    assert decision.pause_lane_s == pytest.approx(pause_s, abs=60 if pause_s == 3600 else 0)
    assert pause_s == 0 or decision.due_in_s == decision.pause_lane_s


async def test_a_redirect_is_not_followed(client: Connections) -> None:
    async with run_receiver() as hidden:
        head = f"HTTP/1.1 307 Moved\r\nLocation: {hidden.url}\r\nContent-Length: 0\r\n\r\n"
        async with run_server(write(head.encode())) as url:
            attempt = await send_once(client, url)
        assert (attempt.status, attempt.error) == (307, "redirect")
        assert hidden.received == []


async def test_an_idle_connection_closed_by_the_receiver_is_no_failure(
    client: Connections,
) -> None:
    async def respond_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read(2)  # the body of the first request
        await reader.readuntil(b"\r\n\r\n")  # closed without a response, as if it had been idle

    async with run_server(respond_once) as url:
        first = await send_once(client, url)
        second = await send_once(client, url)
    assert (first.status, second.status, second.error) == (200, 200, None)


async def test_a_server_without_tls_fails_as_https(client: Connections) -> None:
    async with run_server(write(HEAD)) as url:
        attempt = await send_once(client, url.replace("http:", "https:"), 1.0)
    assert attempt.status is None
    assert attempt.error in {"tls", "connection_lost", "connect", "timeout"}


async def test_a_closed_port_and_an_unknown_name_have_their_own_error_codes(
    client: Connections,
) -> None:
    assert (await send_once(client, "http://127.0.0.1:9/")).error == "connect"
    assert (await send_once(client, "http://nobody.invalid/", 5.0)).error == "dns"
