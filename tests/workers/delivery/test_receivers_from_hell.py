"""Servers that misbehave in every way we could think of, each a real one on loopback."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.hell import BOMB, HEAD, HELL, run_server, say
from tests.receiver import run_receiver
from workers.delivery.connections import Connections
from workers.delivery.retry import MAX_PAUSE_S, MIN_PAUSE_S, PROFILES, Answer, judge
from workers.delivery.sender import Attempt, Target, send
from workers.delivery.wire import MAX_KEPT_BYTES

TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Connections]:
    connections = Connections(private=True)
    yield connections
    await connections.close()


async def try_it(client: Connections, url: str, timeout_s: float = TIMEOUT_S) -> Attempt:
    target = Target(1, True, "wh_1", url, (b"k" * 24,), {}, timeout_s, False, "standard", None, 0)
    return await send(client, target, "evt_1", 1, b"{}")


@pytest.mark.parametrize("name", HELL)
async def test_a_server_that(client: Connections, name: str) -> None:
    behave, status, error = HELL[name]
    async with run_server(behave) as url:
        begun = time.monotonic()
        attempt = await try_it(client, url)
        assert time.monotonic() - begun < TIMEOUT_S + 1
    assert (attempt.status, attempt.error) == (status, error)
    assert len(attempt.body or b"") <= MAX_KEPT_BYTES


async def test_a_gzip_bomb_is_kept_as_it_came(client: Connections) -> None:
    async with run_server(HELL["sends a gzip bomb"][0]) as url:
        attempt = await try_it(client, url)
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
async def test_a_server_that_asks_for_a_pause_gets_it_within_bounds(
    client: Connections, status: int, text: str, pause_s: float
) -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    text = text.format(in_an_hour=in_an_hour)
    head = f"HTTP/1.1 {status} No\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n"
    async with run_server(say(head.encode())) as url:
        attempt = await try_it(client, url)
    answer = Answer(attempt.status, attempt.error, attempt.retry_after, attempt.control)
    verdict = judge(answer, PROFILES["standard"], 1, None, datetime.now(UTC))
    assert (verdict.outcome, verdict.disable) == ("retry", None)
    assert verdict.pause_lane_s == pytest.approx(pause_s, abs=60 if pause_s == 3600 else 0)
    assert pause_s == 0 or verdict.due_in_s == verdict.pause_lane_s


async def test_a_redirect_is_not_followed(client: Connections) -> None:
    async with run_receiver() as hidden:
        head = f"HTTP/1.1 307 Moved\r\nLocation: {hidden.url}\r\nContent-Length: 0\r\n\r\n"
        async with run_server(say(head.encode())) as url:
            attempt = await try_it(client, url)
        assert (attempt.status, attempt.error) == (307, "redirect")
        assert hidden.received == []


async def test_an_idle_connection_that_was_closed_meanwhile_costs_nothing(
    client: Connections,
) -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read(2)  # the body of the first request
        await reader.readuntil(b"\r\n\r\n")  # closed without an answer, as if it had been idle

    async with run_server(answer_once) as url:
        first = await try_it(client, url)
        second = await try_it(client, url)
    assert (first.status, second.status, second.error) == (200, 200, None)


async def test_a_server_without_tls_is_no_https_server(client: Connections) -> None:
    async with run_server(say(HEAD)) as url:
        attempt = await try_it(client, url.replace("http:", "https:"), 1.0)
    assert attempt.status is None
    assert attempt.error in {"tls", "connection_lost", "connect", "timeout"}


async def test_a_closed_port_and_an_unknown_name_have_names_of_their_own(
    client: Connections,
) -> None:
    assert (await try_it(client, "http://127.0.0.1:9/")).error == "connect"
    assert (await try_it(client, "http://nobody.invalid/", 5.0)).error == "dns"
