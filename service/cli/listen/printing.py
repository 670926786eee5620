"""Prints the requests of `leadlog listen`: a headline and the body each, or all fields as JSON."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from service.cli.listen.listening import ReceivedRequest
from service.validation.field_types import parse_moment

_SUCCESS = range(200, 300)
_TYPE_WIDTH = 16
_SUBJECTS = ("lead", "conversation", "webhook")


def make_terminal_printer(*, show_body: bool) -> Callable[[ReceivedRequest], None]:
    """A function that prints a headline per request, and the body below it.

    The body is a dim line, cut to the width of the terminal, or with `show_body` all of it.
    """
    console = Console(highlight=False)

    def show(request: ReceivedRequest) -> None:
        console.print(make_headline(request, datetime.now().astimezone(), console.width))
        if show_body:
            console.print(make_whole_body(request))
        elif line := make_body_line(request):
            console.print(line, no_wrap=True, overflow="ellipsis")

    return show


def print_json(request: ReceivedRequest) -> None:
    """Prints a request as one line of JSON."""
    print(json.dumps(_to_json(request), ensure_ascii=False), flush=True)  # noqa: T201


def make_headline(request: ReceivedRequest, now: datetime, width: int = 1000) -> Text:
    """Time, event type, id of the lead, version, and the outcome with its reason.

    If that is wider than `width`, the outcome is on a line of its own.
    """
    event, data = _read_event(request)
    parts = [
        _show_time(event.get("createdAt"), now),
        f"{event.get('type') or 'no event':<{_TYPE_WIDTH}}",
        _find_subject_id(data) or request.event_id or "-",
        *([f"v{data['version']:<3}"] if isinstance(data.get("version"), int) else []),
    ]
    outcome, style = _describe_outcome(request)
    attempt = "" if request.attempt in {"", "1"} else f"  attempt {request.attempt}"
    event_text = "  ".join(make_printable(part) for part in parts)
    is_wide = len(event_text) + 2 + len(outcome) + len(attempt) > width
    return Text.assemble(
        event_text.rstrip() if is_wide else event_text,
        "\n  " if is_wide else "  ",
        (make_printable(outcome), style),
        make_printable(attempt),
    )


def _describe_outcome(request: ReceivedRequest) -> tuple[str, str]:
    """The status that counts, with a tick only if it is 2xx, and the colour of it."""
    status = request.status if request.forwarded is None else request.forwarded
    is_success = request.fault is None and {status, request.status} <= set(_SUCCESS)
    reasons = list(_find_reasons(request))
    mark = f"{'✓' if is_success else '✗'} {status}"
    return " ".join([mark, ", ".join(reasons)]).strip(), "green" if is_success else "red"


def _find_reasons(request: ReceivedRequest) -> Iterator[str]:
    if request.fault is not None:
        yield request.fault
    elif request.forwarded is not None:
        if request.forward_fault is not None:
            yield request.forward_fault
        elif request.forwarded not in _SUCCESS:
            yield "from the server of --forward"
        if request.status != request.forwarded:
            yield f"but answered {request.status}, the value of --status"
    elif request.status not in _SUCCESS:
        yield "the value of --status"


def make_body_line(request: ReceivedRequest) -> Text | None:
    """The data of the event as one dim line, changes first, without empty fields."""
    event, data = _read_event(request)
    if not data:
        text = json.dumps(event, ensure_ascii=False) if event else _decode(request.body)
        return Text(f"  {make_printable(text)}", style="dim") if text else None
    first = {name: data[name] for name in ("changes",) if name in data}
    about = {name: _drop_empty(data[name]) for name in _SUBJECTS if name in data}
    shown = {**first, **about, **{name: data[name] for name in data if name != "version"}, **about}
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
    return Text(f"  {make_printable(text)}", style="dim")


def make_whole_body(request: ReceivedRequest) -> Text:
    """The body as it was received, indented if it is JSON."""
    event = _to_json(request)["event"]
    if isinstance(event, str):
        return Text(make_printable(event))
    lines = json.dumps(event, ensure_ascii=False, indent=2).splitlines()
    return Text("\n".join(make_printable(line) for line in lines), style="dim")


def _read_event(request: ReceivedRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """The event and its data; empty dicts for other bodies."""
    event = _to_json(request)["event"]
    event = event if isinstance(event, dict) else {}
    data = event.get("data")
    return event, data if isinstance(data, dict) else {}


def _find_subject_id(data: dict[str, Any]) -> str | None:
    for name in _SUBJECTS:
        subject = data.get(name)
        if isinstance(subject, dict) and subject.get("id"):
            return str(subject["id"])
    return None


def _drop_empty(subject: object) -> object:
    if not isinstance(subject, dict):
        return subject
    return {name: value for name, value in subject.items() if value not in (None, [], {}, "")}


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


def _decode(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _to_json(request: ReceivedRequest) -> dict[str, Any]:
    try:
        event = json.loads(request.body)
    except (ValueError, RecursionError):
        event = _decode(request.body)
    return {
        "verified": request.fault is None,
        "fault": request.fault,
        "attempt": request.attempt,
        "answered": request.status,
        "forwarded": request.forwarded,
        "path": request.path,
        "event": event,
    }
