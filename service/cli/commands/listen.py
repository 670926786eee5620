"""`leadlog listen`: a webhook receiver that shows what subscribers receive, and replays it."""

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.commands.addresses import Key, Url, find_key, find_own_url
from service.cli.interrupts import exit_on_interrupt
from service.events.event_types import PATTERNS
from service.settings import load_settings

if TYPE_CHECKING:
    from service.cli.listen.listening import Listener
    from service.cli.listen.session import ListenOptions

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")]


def check_events(events: list[str] | None) -> list[str] | None:
    """Return the events. Raises typer.BadParameter for an unknown event type."""
    for event in events or ():
        if event not in PATTERNS:
            choices = ", ".join(PATTERNS)
            raise typer.BadParameter(f"{event!r} does not exist: choose among {choices}.")
    return events


Events = Annotated[
    list[str] | None,
    typer.Option(
        "--event",
        callback=check_events,
        help="Event type, or wildcard such as 'lead.*'; repeatable.  (default: all)",
    ),
]
Secret = Annotated[
    str | None,
    typer.Option(help="Secret (whsec_…) of an existing webhook; none is registered then."),
]
Status = Annotated[
    int | None,
    typer.Option(
        min=200, max=599, help="Status to respond with.  (default: 204, or that of --forward)"
    ),
]
Delay = Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait before the response.")]
Forward = Annotated[
    str | None,
    typer.Option(help="Forward verified events to this URL. Type `again` to send the last again."),
]
Since = Annotated[
    str | None,
    typer.Option(help="First replay events since: 30m, 2h, 3d or a time. See --webhook."),
]
Webhook = Annotated[
    str | None,
    typer.Option(help="With --secret: id of the existing webhook, whose events are replayed."),
]
Resend = Annotated[
    list[str] | None,
    typer.Option("--replay", help="With --webhook: delivery (dlv_…) to send again; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print each request as one JSON object.")]
Body = Annotated[
    bool, typer.Option("--body", "-v", help="On a terminal: show the whole body of each event.")
]

EXAMPLE = "For example: leadlog listen --event lead.created --forward http://127.0.0.1:3000/hook"


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
    as_json: AsJson = False,
    body: Body = False,
) -> None:
    """Receive webhooks here: register, verify each signature, print each request. Ctrl-C stops it.

    On a terminal each request has a headline (time, type, lead, version, outcome) and a line with
    its data; --body shows the whole event. With --json or behind a pipe it is a JSON object with
    the whole event.
    """
    with exit_on_interrupt():
        from service.cli.listen.api_client import ApiAccess
        from service.cli.listen.listening import Listener
        from service.cli.listen.printing import make_terminal_printer, print_json
        from service.cli.listen.session import ListenOptions

    settings = load_settings(os.environ)
    needs_api = secret is None or webhook is not None
    address = find_own_url(settings) if url is None else url
    options = ListenOptions(
        address=(host, port),
        api=ApiAccess(address, *find_key(key, settings)) if needs_api else None,
        events=event or ["*"],
        secret=secret,
        forward=forward,
        since=replay_since,
        webhook=webhook,
        resend=replay or [],
    )
    is_readable = sys.stdout.isatty() and not as_json
    show = make_terminal_printer(show_body=body) if is_readable else print_json
    listener = Listener(show, status=status, delay_s=delay)
    asyncio.run(_listen(listener, options))


async def _listen(listener: "Listener", options: "ListenOptions") -> None:
    from service.cli.listen.ending import Ending
    from service.cli.listen.session import listen_until

    ending = Ending()
    listener.on_closed_output = ending.end
    await listen_until(ending.wait, listener, options, _report)


def _report(text: str) -> None:
    typer.echo(text, err=True)
