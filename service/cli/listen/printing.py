"""Prints the requests of `leadlog listen`: one readable line each, or all fields as JSON."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from service.cli.listen.listening import ReceivedRequest
from service.validation.field_types import parse_moment

_SUCCESS = range(200, 300)
_TYPE_WIDTH = 16


def make_terminal_printer() -> Callable[[ReceivedRequest], None]:
    """A function that prints one line per request, cut to the width of the terminal."""
    console = Console(highlight=False)

    def show(request: ReceivedRequest) -> None:
        line = make_line(request, datetime.now().astimezone())
        console.print(line, no_wrap=True, overflow="ellipsis")

    return show


def print_json(request: ReceivedRequest) -> None:
    """Prints a request as one line of JSON."""
    print(json.dumps(_to_json(request), ensure_ascii=False), flush=True)  # noqa: T201


def make_line(request: ReceivedRequest, now: datetime) -> Text:
    """The response's status, then time, event type, version, the lead's score and e-mail."""
    event = _to_json(request)["event"]
    event = event if isinstance(event, dict) else {}
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    is_success = request.fault is None and request.status in _SUCCESS
    parts = [
        _show_time(event.get("createdAt"), now),
        f"{event.get('type') or request.event_id or 'no event':<{_TYPE_WIDTH}}",
        *_describe_data(data, request.event_id),
        *([f"attempt {request.attempt}"] if request.attempt not in {"", "1"} else []),
    ]
    return Text.assemble(
        (f"{'✓' if is_success else '✗'} {request.status}", "green" if is_success else "red"),
        *(f"  {make_printable(part)}" for part in parts),
        ("" if request.fault is None else f"  {make_printable(request.fault)}", "red"),
    )


def _describe_data(data: dict[str, Any], event_id: str) -> list[str]:
    parts = [f"v{data['version']:<3}"] if isinstance(data.get("version"), int) else []
    for name in ("lead", "conversation", "webhook"):
        about = data.get(name)
        if isinstance(about, dict):
            score = [f"score {about['score']:>3}"] if isinstance(about.get("score"), int) else []
            return [*parts, *score, str(about.get("email") or about.get("id") or event_id)]
    return [*parts, event_id]


def _show_time(created_at: object, now: datetime) -> str:
    """The time of the event in the local time zone, with its date unless it is today."""
    try:
        at = parse_moment(str(created_at)).astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        at = now
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def make_printable(text: str) -> str:
    """Replaces control characters, which could change the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _to_json(request: ReceivedRequest) -> dict[str, Any]:
    try:
        event = json.loads(request.body)
    except (ValueError, RecursionError):
        event = request.body.decode("utf-8", "replace")
    return {
        "verified": request.fault is None,
        "fault": request.fault,
        "attempt": request.attempt,
        "answered": request.status,
        "forwarded": request.forwarded,
        "path": request.path,
        "event": event,
    }
