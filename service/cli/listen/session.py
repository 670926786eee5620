"""One run of `leadlog listen`: setup, replay of past events, listening, cleanup."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime

import msgspec
from yarl import URL

from service.cli.listen.api_client import ApiAccess, ApiClient, open_api
from service.cli.listen.forwarding import open_forwarder, read_lines, run_commands
from service.cli.listen.listening import Listener, register, serve_listener
from service.cli.listen.replay import Span, parse_since, read_log, replay_webhook, resend
from service.cli.listen.watch import read_state, watch_webhook
from service.cli.processes import StartError
from service.settings import SettingsError
from service.validation.field_types import parse_moment
from service.webhooks.secrets import decode_secret

STDIN = 0
LOG_PATH = "(log)"
"""The path shown for events that come from the log, not from a request."""
Report = Callable[[str], None]


class ListenOptions(msgspec.Struct, frozen=True):
    """The options of the command. Without a secret, the command registers its own webhook."""

    address: tuple[str, int]
    api: ApiAccess | None
    events: list[str]
    secret: str | None
    forward: str | None
    since: str | None
    webhook: str | None
    resend: list[str]


def check_options(options: ListenOptions) -> datetime | None:
    """Returns the time of `since`. Raises SettingsError if the options are invalid."""
    if options.secret is not None:
        try:
            decode_secret(options.secret)
        except ValueError as error:
            raise SettingsError(f"The option --secret {error}") from None
    if fault := next(_find_faults(options), None):
        raise SettingsError(fault)
    if options.since is None:
        return None
    try:
        return parse_since(options.since, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise SettingsError(
            "The option --replay-since must be a span such as 30m, 2h or 3d, or an ISO 8601 time."
        ) from None


def _find_faults(options: ListenOptions) -> Iterator[str]:
    if options.forward is not None and not _is_url(options.forward):
        yield (
            "The option --forward must be a URL such as http://127.0.0.1:3000/hook; "
            f"{options.forward!r} is not."
        )
    if options.webhook is not None and options.secret is None:
        yield "The option --webhook needs --secret, with which it signs."
    if options.resend and options.webhook is None:
        yield "The option --replay needs --webhook, whose delivery it is."
    if options.since is not None and options.secret is not None and options.webhook is None:
        yield "With --secret, --replay-since needs --webhook, which is replayed."


def _is_url(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)


async def listen_until(
    stop: Callable[[], Awaitable[object]],
    listener: Listener,
    options: ListenOptions,
    report: Report,
) -> None:
    """Listens until `stop` returns. Raises SettingsError and StartError."""
    since = check_options(options)
    async with AsyncExitStack() as stack:
        own_url = await stack.enter_async_context(serve_listener(listener, *options.address))
        api = None
        if options.api is not None:
            api = await stack.enter_async_context(open_api(options.api))
        secret, made_at, webhook_id = options.secret, datetime.now(UTC), options.webhook
        if secret is None and api is not None:
            made = await stack.enter_async_context(register(api, own_url, options.events))
            secret, made_at, webhook_id = made.secret, parse_moment(made.created_at), made.id
        elif api is not None:
            await read_state(api, str(webhook_id))  # refuses the id of another webhook
        listener.keys.append(decode_secret(str(secret)))
        report(f"Listening at {own_url}; Ctrl-C ends it.")
        if options.forward is not None:
            await stack.enter_async_context(_forwarding(listener, options.forward, report))
            report(f"Forwarding to {options.forward}; the secret is {secret}.")
        if api is None:
            await stop()
            return
        span = None if since is None else Span(since, made_at)
        await stack.enter_async_context(_running(_replay(api, listener, options, span, report)))
        await _run_until(stop(), watch_webhook(api, str(webhook_id), report))


async def _run_until(stop: Awaitable[object], work: Coroutine[None, None, None]) -> None:
    """Runs `work` until `stop` returns. Raises the error that ends `work`."""
    stopping, working = asyncio.ensure_future(stop), asyncio.create_task(work)
    tasks = {stopping, working}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        stopped, worked = await asyncio.gather(stopping, working, return_exceptions=True)
    for result in (stopped, worked):
        if isinstance(result, Exception):
            raise result


async def _replay(
    api: ApiClient,
    listener: Listener,
    options: ListenOptions,
    span: Span | None,
    report: Report,
) -> None:
    """Replays the chosen past events, while the listener receives new ones."""

    async def receive(headers: Mapping[str, str], body: bytes) -> int:
        return await listener.process(LOG_PATH, headers, body)

    try:
        for delivery_id in options.resend:
            await resend(api, str(options.webhook), delivery_id, report)
        if span is not None and options.webhook is None:
            await read_log(api, listener.keys[0], span, options.events, receive, report)
        elif span is not None:
            await replay_webhook(api, str(options.webhook), span.since, report)
    except StartError as error:
        report(str(error))


@asynccontextmanager
async def _forwarding(listener: Listener, url: str, report: Report) -> AsyncIterator[None]:
    async with open_forwarder(url, listener.keys) as forwarder:
        listener.forwarder = forwarder
        async with _running(run_commands(forwarder, read_lines(STDIN), report)):
            yield


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Runs the coroutine as a task in the context; cancels the task at its end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
