"""The readable output of commands: one line per webhook, tables with untruncated ids."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, get_args

import aiohttp
import pytest

from service.cli.demo.people import make_leads
from service.cli.listen.listening import ReceivedRequest
from service.cli.listen.printing import make_line
from service.events.event_types import EventType
from service.webhooks.sample_events import make_test_event
from tests.service.cli.commandline import Command, bare, leadlog
from tests.service.cli.listen.test_listening import SECRET, make_headers

__all__ = ["bare", "leadlog"]  # fixtures

NOW = datetime(2026, 11, 30, 12, 0, 5, tzinfo=UTC)


def make_request(body: bytes, status: int = 204, **changes: Any) -> ReceivedRequest:
    given: dict[str, Any] = {
        "path": "/", "event_id": "evt_1", "attempt": "1", "fault": None, "body": body,
        "status": status, "forwarded": None,
    }  # fmt: skip
    return ReceivedRequest(**{**given, **changes})


def make_body(event_type: str = "lead.qualified", at: datetime = NOW) -> bytes:
    return make_test_event("evt_1", event_type, "wh_1", at)


def test_a_webhook_is_one_line_with_the_main_fields() -> None:
    line = make_line(make_request(make_body()), NOW).plain
    assert line == "✓ 204  12:00:05  lead.qualified    v1    score   0  test@example.com"


@pytest.mark.parametrize("event_type", get_args(EventType))
def test_every_type_of_event_is_one_line(event_type: str) -> None:
    line = make_line(make_request(make_body(event_type)), NOW).plain
    assert f"  {event_type}  " in line
    assert "  v1  " in line
    assert line.endswith(("test@example.com", "conv_" + "0" * 26, "wh_1"))
    assert "\n" not in line


@pytest.mark.parametrize("status", [100, 199, 300, 302, 400, 410, 500, 503])
def test_only_a_verified_request_with_a_2xx_status_has_a_green_tick(status: int) -> None:
    good = make_line(make_request(make_body(), 204), NOW)
    bad = make_line(make_request(make_body(), status), NOW)
    forged = make_line(make_request(make_body(), 204, fault="no header webhook-id"), NOW)
    assert (good.plain[:5], good.spans[0].style) == ("✓ 204", "green")
    assert (bad.plain[:5], bad.spans[0].style) == (f"✗ {status}", "red")
    assert (forged.plain[0], forged.spans[0].style) == ("✗", "red")
    assert forged.plain.endswith("no header webhook-id")


def test_a_repeated_or_old_event_shows_its_attempt_or_date() -> None:
    body = make_body(at=NOW - timedelta(days=2))
    line = make_line(make_request(body, attempt="3"), NOW).plain
    assert "  2026-11-28 12:00:05  " in line
    assert line.endswith("attempt 3")


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b"{}", b"[" * 100_000,
     b'{"type":1,"data":{"lead":{"email":["\\u001b"]}}}',
     b'{"createdAt":"99999-01-01","data":{"version":"x","lead":null}}'],
)  # fmt: skip
def test_a_body_that_is_no_event_is_one_line_too(body: bytes) -> None:
    line = make_line(make_request(body, 400, fault="no header webhook-id", event_id="\x1b[2J"), NOW)
    assert line.plain.isprintable()
    assert line.plain.startswith("✗ 400  12:00:05")


def open_terminal(columns: int, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """Starts a command on a terminal of this width; returns it and our end of the terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "service.cli.main", *arguments],
        stdout=theirs,
        stderr=theirs,
        env=env,
    )
    os.close(theirs)
    return process, ours


def read_terminal(ours: int, until: bytes | None = None) -> list[str]:
    """Reads the terminal up to its end or to `until`; returns the lines without escape codes."""
    seen = b""
    with contextlib.suppress(OSError):  # on Linux: the other side is closed
        while until is None or until not in seen:
            seen += os.read(ours, 65536)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode()).splitlines()


@pytest.mark.parametrize("option", [(), ("--json",)])
async def test_listen_on_a_terminal_prints_a_line_or_json(
    session: aiohttp.ClientSession, option: tuple[str, ...]
) -> None:
    process, ours = open_terminal(300, "listen", "--secret", SECRET, "--status", "503", *option)
    try:
        (said, *_) = await asyncio.to_thread(read_terminal, ours, b"ends it.")
        body = make_body()
        headers = make_headers(body, int(time.time()))
        async with session.post(said.split()[2].rstrip(";"), data=body, headers=headers) as answer:
            assert answer.status == 503
        lines = await asyncio.to_thread(read_terminal, ours, b"\n")
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
        os.close(ours)
    (line,) = [line for line in lines if line]
    if option:
        assert json.loads(line)["event"] == json.loads(body)
    else:
        assert line.startswith("✗ 503  ")
        assert "lead.qualified" in line


@pytest.mark.parametrize("columns", [30, 60, 80, 100, 110, 140, 250])
def test_ids_are_not_truncated_at_any_width(leadlog: Command, columns: int) -> None:
    leadlog("tenants", "create", "acme")
    leadlog("keys", "create", "a long name of a key for a CRM", "--tenant", "acme")
    leadlog("keys", "create", "x", "--tenant", "acme", "--expires-in-days", "30")
    ids = [row[0] for row in leadlog("keys", "list", "--tenant", "acme").rows]
    process, ours = open_terminal(columns, "keys", "list", "--tenant", "acme")
    text = "\n".join(read_terminal(ours))
    assert process.wait() == 0
    os.close(ours)
    assert [text.count(key_id) for key_id in ids] == [1, 1]
    assert len(re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d[\d:.]*Z", text)) == 3


def test_notes_of_the_demo_differ_and_repeat_no_sentence() -> None:
    leads = list(make_leads(3000, seed=7))
    notes = [note for lead in leads if (note := lead["customFields"].get("note"))]
    assert len(notes) > 20
    assert len(set(notes)) == len(notes)
    for note in notes:
        sentences = re.findall(r"[^.]+\.", note)
        assert len(set(sentences)) == len(sentences) > 2
    assert any(len(one) != len(other) for one, other in pairwise(notes))
    assert max(map(len, notes)) > 1500
    assert leads == list(make_leads(3000, seed=7))
