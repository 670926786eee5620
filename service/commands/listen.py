"""`leadlog listen`: a webhook receiver to look at what a subscriber gets, and to get it again."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from service.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from service.listen.listening import Heard

Url = Annotated[str | None, typer.Option(help="The API.  [http://HOST:PORT]")]
Key = Annotated[str | None, typer.Option(help="An admin key.  [DATA_DIR/admin.key]")]
Host = Annotated[str, typer.Option(help="Where to listen.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")]
Events = Annotated[list[str] | None, typer.Option("--event", help="Repeatable.  [all]")]
Secret = Annotated[
    str | None,
    typer.Option(help="Verify with this whsec_… and register nothing: the webhook exists."),
]
Status = Annotated[
    int | None, typer.Option(min=200, max=599, help="What to answer.  [204, or as --forward does]")
]
Delay = Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait with the answer.")]
Forward = Annotated[
    str | None,
    typer.Option(help="Pass verified events on to this URL. Typing `again` sends the last again."),
]
Since = Annotated[
    str | None,
    typer.Option(help="First what happened since: 30m, 2h, 3d or a time. See --webhook."),
]
Webhook = Annotated[
    str | None,
    typer.Option(help="With --secret: the existing webhook that leads here, to be replayed."),
]
Resend = Annotated[
    list[str] | None,
    typer.Option("--replay", help="With --webhook: a delivery (dlv_…) to send again. Repeatable."),
]


def listen(
    url: Url = None,
    key: Key = None,
    host: Host = "127.0.0.1",
    port: Port = 0,
    event: Events = None,
    secret: Secret = None,
    status: Status = None,
    delay: Delay = 0.0,
    forward: Forward = None,
    replay_since: Since = None,
    webhook: Webhook = None,
    replay: Resend = None,
) -> None:
    """Receive webhooks here: register, verify each signature, print what comes. Ctrl-C ends it.

    Behind a pipe it prints one JSON object per line.
    """
    from service.listen.listening import Listener
    from service.listen.session import Wishes, listen_until
    from service.webhooks.endpoints import EventType

    settings = load_settings(os.environ)
    needs_api = secret is None or webhook is not None
    wishes = Wishes(
        address=(host, port),
        api_url=url or f"http://{settings.host}:{settings.port}",
        api_key=(key or _read_key(settings.data_dir)) if needs_api else None,
        events=event or list(get_args(EventType)),
        secret=secret,
        forward=forward,
        since=replay_since,
        webhook=webhook,
        resend=replay or [],
    )
    listener = Listener(_make_printer(), status=status, delay_s=delay)
    asyncio.run(listen_until(_wait_for_signal, listener, wishes, _say))


async def _wait_for_signal() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def _read_key(folder: Path) -> str:
    try:
        return (folder / "admin.key").read_text(encoding="utf-8").strip()
    except OSError:
        raise SettingsError(
            f"There is no key in {folder / 'admin.key'}: start `leadlog dev`, or give --key."
        ) from None


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _make_printer() -> Any:
    """Prints what was heard: in colour on a terminal, else as JSON lines."""
    if not sys.stdout.isatty():
        return _print_line
    from rich.console import Console

    console = Console(highlight=False)

    def show(heard: "Heard") -> None:
        from rich.json import JSON
        from rich.text import Text

        sound = heard.fault is None
        head = Text.assemble(
            ("✓ " if sound else "✗ ", "green" if sound else "red"),
            (_make_printable(heard.event_id), "bold"),
            f"  attempt {_make_printable(heard.attempt)}  answered {heard.answered}",
            ("" if sound else f"  {heard.fault}", "red"),
        )
        console.print(head)
        value = _to_json(heard)["event"]
        console.print(JSON.from_data(value) if not isinstance(value, str) else Text(repr(value)))

    return show


def _make_printable(text: str) -> str:
    """Without what a stranger might tell the terminal to do."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _print_line(heard: "Heard") -> None:
    print(json.dumps(_to_json(heard), ensure_ascii=False), flush=True)  # noqa: T201


def _to_json(heard: "Heard") -> dict[str, Any]:
    try:
        event = json.loads(heard.body)
    except ValueError:
        event = heard.body.decode("utf-8", "replace")
    return {
        "verified": heard.fault is None, "fault": heard.fault, "attempt": heard.attempt,
        "answered": heard.answered, "forwarded": heard.forwarded, "path": heard.path,
        "event": event,
    }  # fmt: skip
