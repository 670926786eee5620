"""`leadlog listen` as a separate process, with the running API."""

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import standardwebhooks
from aiohttp import web

from service.cli.listen.listening import find_fault
from service.cli.listen.printing import make_printable
from service.cli.listen.replay import parse_since
from service.webhooks.secrets import decode_secret
from service.webhooks.signing import sign
from tests.harness.api_client import Api
from tests.harness.listening import start, stop
from tests.loopback.receiver import Received, run_receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = decode_secret(SECRET)


def make_headers(body: bytes, timestamp: int, **changes: str) -> dict[str, str]:
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([b"other" * 5, KEY], "evt_1", timestamp, body),
        **changes,
    }


def test_a_signature_by_any_of_the_keys_is_valid() -> None:
    assert find_fault([KEY], make_headers(b"{}", 1000), b"{}", 1000.0) is None


@pytest.mark.parametrize(
    ("changes", "body", "now", "fault"),
    [
        ({}, b"{} ", 1000.0, "no signature fits"),
        ({"webhook-id": "evt_2"}, b"{}", 1000.0, "no signature fits"),
        ({"webhook-signature": "v1 v1, v2,x v1,% v1,é"}, b"{}", 1000.0, "no signature fits"),
        ({"webhook-timestamp": "²"}, b"{}", 1000.0, "no number"),
        ({"webhook-timestamp": "9" * 4000}, b"{}", 1000.0, "no number"),
        ({}, b"{}", 1301.0, "more than 300 s"),
        ({}, b"{}", 699.0, "more than 300 s"),
    ],
)
def test_a_changed_or_old_request_fails_the_verification(
    changes: dict[str, str], body: bytes, now: float, fault: str
) -> None:
    found = find_fault([KEY], make_headers(b"{}", 1000, **changes), body, now)
    assert found is not None
    assert fault in found


def test_a_missing_header_is_named() -> None:
    assert find_fault([KEY], {"webhook-id": "evt_1"}, b"", 0.0) == "no header webhook-timestamp"


async def test_listen_registers_a_webhook_and_removes_it_at_the_end(api: Api) -> None:
    process, own_url = await start(
        "--url", api.url, "--key", str(api.key), "--event", "lead.created"
    )
    listed = (await api.get("/v1/webhooks")).json["data"]
    assert [(w["url"], w["events"]) for w in listed if w["url"] == own_url] == [
        (own_url, ["lead.created"])
    ]
    assert await stop(process) == []
    assert own_url not in (await api.get("/v1/webhooks")).body.decode()


async def test_listen_prints_json_lines_and_responds_with_the_chosen_status(
    session: aiohttp.ClientSession,
) -> None:
    process, own_url = await start("--secret", SECRET, "--status", "503")
    body = b'{"id":"evt_1"}'
    good = make_headers(body, int(time.time()))
    async with session.post(own_url + "a?b=1", data=body, headers=good) as answer:
        assert answer.status == 503
    async with session.post(own_url, data=b"\xff", headers=good) as answer:
        assert answer.status == 400
    first, second = await stop(process)
    assert (first["verified"], first["event"], first["path"]) == (True, {"id": "evt_1"}, "/a?b=1")
    assert (second["verified"], second["answered"]) == (False, 400)


async def test_listen_responds_after_the_chosen_delay(session: aiohttp.ClientSession) -> None:
    process, own_url = await start("--secret", SECRET, "--delay", "0.7")
    body = b'{"id":"evt_1"}'
    begun = time.monotonic()
    async with session.post(own_url, data=body, headers=make_headers(body, int(time.time()))) as a:
        assert a.status == 204
    assert 0.7 <= time.monotonic() - begun < 10
    (told,) = await stop(process)
    assert (told["verified"], told["answered"]) == (True, 204)


async def test_listen_reports_errors_in_a_sentence(api: Api) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.cli.main", "listen", "--url", api.url,
        "--key", "sk_live_" + "x" * 32,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"refused the request" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--secret", "hunter2"], b"--secret must be"),
        (["--key", "k", "--forward", "127.0.0.1:3000"], b"--forward must be a URL"),
        (["--key", "k", "--webhook", "wh_1"], b"--webhook needs --secret"),
        (["--key", "k", "--replay", "dlv_1"], b"--replay needs --webhook"),
        (["--secret", SECRET, "--replay-since", "2h"], b"needs --webhook"),
        (["--key", "k", "--replay-since", "yesterday"], b"must be a span"),
        (["--key", "k", "--replay-since", "999999d"], b"must be a span"),
    ],
)
def test_invalid_combinations_of_options_are_refused_in_a_sentence(
    options: list[str], sentence: bytes
) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "service.cli.main", "listen", *options],
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert sentence in done.stderr
    assert b"Traceback" not in done.stderr


def test_since_is_a_span_or_a_time() -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert parse_since("90s", now) == now - timedelta(seconds=90)
    assert parse_since("2h", now) == now - timedelta(hours=2)
    assert parse_since("2026-11-01T00:00:00Z", now) == datetime(2026, 11, 1, tzinfo=UTC)
    for nonsense in ("", "h", "2 h", "-2h", "2w", "²h", "tomorrow"):
        with pytest.raises(ValueError, match="neither a span nor a time"):
            parse_since(nonsense, now)


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert make_printable("evt_\x1b[2J\x9b1m\r") == "evt_?[2J?1m?"


async def test_a_verified_request_is_forwarded_and_gets_the_status_of_the_server(
    session: aiohttp.ClientSession,
) -> None:
    async def teapot(_: Received) -> web.Response:
        return web.Response(status=418)

    async with run_receiver(teapot) as receiver:
        process, own_url = await start("--secret", SECRET, "--forward", f"{receiver.url}/hook")
        body = b'{"id":"evt_1"}'
        good = make_headers(body, int(time.time()), **{"x-secret": "stays", "webhook-attempt": "3"})
        async with session.post(own_url, data=body, headers=good) as answer:
            assert answer.status == 418
        async with session.post(own_url, data=b"forged", headers=good) as answer:
            assert answer.status == 400
        (received,) = receiver.received
        assert (received.path, received.body) == ("/hook", body)
        assert received.headers["webhook-attempt"] == "3"
        assert "x-secret" not in received.headers
        standardwebhooks.Webhook(SECRET).verify(received.body, received.headers)
    async with session.post(own_url, data=body, headers=good) as answer:
        assert answer.status == 502  # the server has stopped
    told = await stop(process)
    assert [one["forwarded"] for one in told] == [418, None, 502]


async def test_a_received_event_is_sent_again_on_request(session: aiohttp.ClientSession) -> None:
    async with run_receiver() as receiver:
        process, own_url = await start("--secret", SECRET, "--forward", receiver.url)
        for n in range(1, 4):
            body = b'{"id":"evt_%d"}' % n
            headers = make_headers(body, int(time.time()) - 200)
            headers["webhook-id"] = f"evt_{n}"
            headers["webhook-signature"] = sign([KEY], f"evt_{n}", int(time.time()) - 200, body)
            headers["webhook-timestamp"] = str(int(time.time()) - 200)
            async with session.post(own_url, data=body, headers=headers) as answer:
                assert answer.status == 200
        assert process.stdin is not None
        process.stdin.write(b"again\nagain 2\nagain evt_1\nagain evt_9\nagain 0\nhelp\n")
        received = (await receiver.wait_for(7))[3:]
        assert [one.id for one in received] == ["evt_3", "evt_2", "evt_3", "evt_1"]
        for one in received:
            assert abs(int(one.headers["webhook-timestamp"]) - time.time()) < 60
            standardwebhooks.Webhook(SECRET).verify(one.body, one.headers)
        assert process.stderr is not None
        said = [(await process.stderr.readline()).decode().strip() for _ in range(7)]
    assert said[:4] == [f"evt_{n} again: 200" for n in (3, 2, 3, 1)]
    assert all("Type `again`" in line for line in said[4:])
    await stop(process)
