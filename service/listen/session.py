"""One run of `leadlog listen`: what it sets up, does first, and takes down again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime

import aiohttp
import msgspec

from service.listen.api_client import open_api
from service.listen.forwarding import obey_forever, open_forwarder, read_lines
from service.listen.listening import Listener, register, serve_listener
from service.listen.past import parse_since, read_log, replay_webhook, resend
from service.processes import StartError
from service.settings import SettingsError
from service.webhooks.endpoints import decode_secret

STDIN = 0
LOG_PATH = "(log)"
"""Stands for the path of what came from the log and not over the wire."""
Say = Callable[[str], None]


class Wishes(msgspec.Struct, frozen=True):
    """The options of the command. Without a secret it registers a webhook of its own."""

    address: tuple[str, int]
    api_url: str
    api_key: str | None
    events: list[str]
    secret: str | None
    forward: str | None
    since: str | None
    webhook: str | None
    resend: list[str]


def check_wishes(wishes: Wishes) -> datetime | None:
    """What `since` means. Raises SettingsError, a sentence, for what does not go together."""
    if wishes.secret is not None:
        try:
            decode_secret(wishes.secret)
        except ValueError as error:
            raise SettingsError(f"The option --secret {error}") from None
    if fault := next(_find_faults(wishes), None):
        raise SettingsError(fault)
    if wishes.since is None:
        return None
    try:
        return parse_since(wishes.since, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise SettingsError(
            "The option --replay-since must be a span such as 30m, 2h or 3d, or an ISO 8601 time."
        ) from None


def _find_faults(wishes: Wishes) -> Iterator[str]:
    if wishes.forward is not None and not wishes.forward.startswith(("http://", "https://")):
        yield "The option --forward must be a URL that begins with http:// or https://."
    if wishes.webhook is not None and wishes.secret is None:
        yield "The option --webhook needs --secret, with which it signs."
    if wishes.resend and wishes.webhook is None:
        yield "The option --replay needs --webhook, whose delivery it is."
    if wishes.since is not None and wishes.secret is not None and wishes.webhook is None:
        yield "With --secret, --replay-since needs --webhook, which is replayed."


async def listen_until(
    stop: Callable[[], Awaitable[object]], listener: Listener, wishes: Wishes, say: Say
) -> None:
    """Listens until `stop` returns. Raises SettingsError and StartError."""
    since = check_wishes(wishes)
    async with AsyncExitStack() as stack:
        own_url = await stack.enter_async_context(serve_listener(listener, *wishes.address))
        session = None
        if wishes.api_key is not None:
            session = await stack.enter_async_context(open_api(wishes.api_url, wishes.api_key))
        secret = wishes.secret
        if secret is None and session is not None:
            made = await stack.enter_async_context(register(session, own_url, wishes.events))
            secret = str(made["secret"])
        listener.keys.append(decode_secret(str(secret)))
        say(f"Listening at {own_url}; Ctrl-C ends it.")
        if wishes.forward is not None:
            await stack.enter_async_context(_forwarding(listener, wishes.forward, say))
            say(f"Forwarding to {wishes.forward}; the secret is {secret}.")
        if session is not None:
            await stack.enter_async_context(
                _running(_look_back(session, listener, wishes, since, say))
            )
        await stop()


async def _look_back(
    session: aiohttp.ClientSession, listener: Listener, wishes: Wishes, since: datetime | None,
    say: Say,
) -> None:  # fmt: skip
    """What is wished for from the past, while the present comes in."""

    async def hear(headers: Mapping[str, str], body: bytes) -> int:
        return await listener.hear(LOG_PATH, headers, body)

    try:
        for delivery_id in wishes.resend:
            await resend(session, str(wishes.webhook), delivery_id, say)
        if since is not None and wishes.webhook is None:
            await read_log(session, listener.keys[0], since, wishes.events, hear, say)
        elif since is not None:
            await replay_webhook(session, str(wishes.webhook), since, say)
    except StartError as error:
        say(str(error))


@asynccontextmanager
async def _forwarding(listener: Listener, url: str, say: Say) -> AsyncIterator[None]:
    async with open_forwarder(url, listener.keys) as forwarder:
        listener.forwarder = forwarder
        async with _running(obey_forever(forwarder, read_lines(STDIN), say)):
            yield


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Beside what is entered, and no longer."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
