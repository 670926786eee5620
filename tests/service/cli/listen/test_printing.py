"""The readable output of commands: a headline per webhook, tables with whole ids."""

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
from typing import Any, get_args

import aiohttp
import pytest

from service.cli.listen.listening import ReceivedRequest
from service.cli.listen.printing import make_body_line, make_headline, make_whole_body
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


LEAD_ID = json.loads(make_test_event("evt_1", "lead.created", "wh_1", NOW))["data"]["lead"]["id"]


def test_a_webhook_has_a_headline_with_the_main_fields() -> None:
    line = make_headline(make_request(make_body()), NOW).plain
    assert line == f"12:00:05  lead.qualified    {LEAD_ID}  v1    ✓ 204"
    assert len(line) < 80


def test_the_body_is_one_dim_line_with_changes_first_and_no_empty_fields() -> None:
    lead: dict[str, Any] = {"id": "lead_1", "email": "a@b.example", "phone": None, "tags": []}
    data = {"lead": lead, "version": 3, "changes": {"score": {"from": 0, "to": 69}}}
    line = make_body_line(make_request(json.dumps({"type": "lead.updated", "data": data}).encode()))
    assert line is not None
    assert line.style == "dim"
    wanted = '{"changes":{"score":{"from":0,"to":69}},"lead":{"id":"lead_1","email":"a@b.example"}}'
    assert line.plain == f"  {wanted}"


def test_the_whole_body_is_indented_json() -> None:
    shown = make_whole_body(make_request(make_body())).plain
    assert json.loads(shown) == json.loads(make_body())
    assert shown.count("\n") > 20


@pytest.mark.parametrize("event_type", get_args(EventType))
def test_every_type_of_event_is_one_line(event_type: str) -> None:
    line = make_headline(make_request(make_body(event_type)), NOW).plain
    assert f"  {event_type}  " in line
    assert any(f"  {subject}  v1  " in line for subject in (LEAD_ID, "conv_" + "0" * 26, "wh_1"))
    assert line.endswith("✓ 204")
    assert "\n" not in line


@pytest.mark.parametrize("status", [100, 199, 300, 302, 400, 410, 500, 503])
def test_only_a_verified_request_with_a_2xx_status_has_a_green_tick(status: int) -> None:
    assert read_outcome(204) == ("✓ 204", "green")
    assert read_outcome(status) == (f"✗ {status} the value of --status", "red")
    assert read_outcome(400, fault="no header webhook-id") == ("✗ 400 no header webhook-id", "red")


def read_outcome(status: int, **changes: Any) -> tuple[str, str]:
    """The end of the headline, and its colour."""
    line = make_headline(make_request(make_body(), status, **changes), NOW)
    (span,) = line.spans
    return line.plain[span.start : span.end], str(span.style)


@pytest.mark.parametrize(
    ("status", "forwarded", "fault", "outcome"),
    [
        (200, 200, None, "✓ 200"),
        (503, 503, None, "✗ 503 from the server of --forward"),
        (302, 302, None, "✗ 302 from the server of --forward"),
        (502, 502, "no response from URL (Connection refused)", "✗ 502 no response from URL (C"),
        (204, 500, None, "✗ 500 from the server of --forward, but answered 204, the value of"),
        (503, 200, None, "✗ 200 but answered 503, the value of --status"),
    ],
)
def test_the_outcome_is_that_of_the_forwarded_request_with_its_reason(
    status: int, forwarded: int, fault: str | None, outcome: str
) -> None:
    shown, colour = read_outcome(status, forwarded=forwarded, forward_fault=fault)
    assert shown.startswith(outcome)
    assert colour == ("green" if outcome[0] == "✓" else "red")


def test_a_repeated_or_old_event_shows_its_attempt_or_date() -> None:
    body = make_body(at=NOW - timedelta(days=2))
    line = make_headline(make_request(body, attempt="3"), NOW).plain
    assert line.startswith("2026-11-28 12:00:05  ")
    assert line.endswith("attempt 3")


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b"{}", b"[" * 100_000,
     b'{"type":1,"data":{"lead":{"email":["\\u001b"]}}}',
     b'{"createdAt":"99999-01-01","data":{"version":"x","lead":null}}'],
)  # fmt: skip
def test_a_body_that_is_no_event_is_one_line_too(body: bytes) -> None:
    request = make_request(body, 400, fault="no header webhook-id", event_id="\x1b[2J")
    headline, line = make_headline(request, NOW), make_body_line(request)
    assert headline.plain.isprintable()
    assert headline.plain.startswith("12:00:05")
    assert headline.plain.endswith("✗ 400 no header webhook-id")
    assert line is None or line.plain.isprintable()


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


@pytest.mark.parametrize("option", [(), ("--json",), ("--body",), ("-v",)])
async def test_listen_on_a_terminal_prints_two_lines_or_the_whole_body_or_json(
    session: aiohttp.ClientSession, option: tuple[str, ...]
) -> None:
    process, ours = open_terminal(80, "listen", "--secret", SECRET, "--status", "503", *option)
    try:
        (said, *_) = await asyncio.to_thread(read_terminal, ours, b"ends it.")
        body = make_body()
        headers = make_headers(body, int(time.time()))
        async with session.post(said.split()[2].rstrip(";"), data=body, headers=headers) as answer:
            assert answer.status == 503
        await asyncio.sleep(0.5)
        lines = await asyncio.to_thread(read_terminal, ours, b"\n")
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
        os.close(ours)
    if option == ("--json",):
        assert json.loads("".join(lines))["event"] == json.loads(body)
        return
    assert lines[0].endswith(f"  lead.qualified    {LEAD_ID}  v1")
    assert lines[1] == "  ✗ 503 the value of --status"
    rest = lines[2:]
    if option:
        assert json.loads("".join(line for line in rest if line)) == json.loads(body)
    else:
        assert len(rest) == 1
        assert rest[0].startswith('  {"changes":{"status":')
        assert rest[0].endswith("…")
        assert len(rest[0]) == 80


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
    for name in ("id", "name", "scope", "mode", "last4", "createdAt", "expiresAt", "lastUsedAt"):
        assert name in text  # as a column, as a line, or as a column that is left out
    lines = [line for line in text.splitlines() if line]
    assert (len(lines) <= 6) == (columns >= 60)  # a table, if it is wide enough for one
    if columns >= 110:
        assert "Not shown" not in text


@pytest.mark.parametrize("columns", [80, 110])
@pytest.mark.parametrize("command", [("plans", "list"), ("tenants", "list"), ("doctor",)])
def test_other_tables_fit_a_terminal_without_breaking_words(
    leadlog: Command, columns: int, command: tuple[str, ...]
) -> None:
    plan = "a-plan-whose-name-has-thirty-six-let"
    leadlog("plans", "set", plan, "--per-minute", "2000000000", "--route", "GET /leads/{id}=5")
    leadlog("tenants", "create", "acme")
    leadlog("tenants", "plan", "acme", plan)
    process, ours = open_terminal(columns, *command)
    lines = read_terminal(ours)
    assert process.wait() == (1 if command == ("doctor",) else 0)  # no worker is running
    os.close(ours)
    assert max(len(line.rstrip()) for line in lines if "Not shown" not in line) <= columns
    assert command == ("doctor",) or any(plan in line for line in lines)
