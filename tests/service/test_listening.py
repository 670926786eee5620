"""`leadlog listen` against the running API, as a program of its own."""

import asyncio
import json
import signal
import sys
import time
from typing import Any

import aiohttp
import pytest

from service.listening import find_fault
from service.webhooks import decode_secret
from tests.serving import Api
from workers.signing import sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = decode_secret(SECRET)


def make_headers(body: bytes, timestamp: int, **changes: str) -> dict[str, str]:
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([b"other" * 5, KEY], "evt_1", timestamp, body),
        **changes,
    }


def test_a_signature_by_any_of_the_senders_keys_holds() -> None:
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
def test_what_was_changed_or_is_old_is_not_believed(
    changes: dict[str, str], body: bytes, now: float, fault: str
) -> None:
    found = find_fault([KEY], make_headers(b"{}", 1000, **changes), body, now)
    assert found is not None
    assert fault in found


def test_a_missing_header_is_named() -> None:
    assert find_fault([KEY], {"webhook-id": "evt_1"}, b"", 0.0) == "no header webhook-timestamp"


async def start(*options: str) -> tuple[asyncio.subprocess.Process, str]:
    """The program and the address it listens at."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.cli", "listen", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    line = (await process.stderr.readline()).decode()
    assert "Listening at http" in line, line + (await process.stderr.read()).decode()
    return process, line.split()[2].rstrip(";")


async def stop(process: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    return [json.loads(line) for line in out.splitlines()]


async def test_listen_registers_itself_and_leaves_nothing_behind(api: Api) -> None:
    process, own_url = await start(
        "--url", api.url, "--key", str(api.key), "--event", "lead.created"
    )
    listed = (await api.get("/v1/webhooks")).json["data"]
    assert [(w["url"], w["events"]) for w in listed if w["url"] == own_url] == [
        (own_url, ["lead.created"])
    ]
    assert await stop(process) == []
    assert own_url not in (await api.get("/v1/webhooks")).body.decode()


async def test_listen_prints_json_lines_and_answers_as_told(session: aiohttp.ClientSession) -> None:
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


async def test_listen_says_in_a_sentence_what_is_wrong(api: Api) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.cli", "listen", "--url", api.url,
        "--key", "sk_live_" + "x" * 32,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"did not take the webhook" in err
    assert b"Traceback" not in err
