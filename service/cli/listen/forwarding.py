"""Forwards the requests that `leadlog listen` receives to the subscriber's own server."""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp

from service.webhooks.signing import sign
from sql.errors import describe_error

MAX_STORED = 1000
TIMEOUT_S = 30.0
BAD_GATEWAY = 502
FORWARDED_HEADERS = (
    "content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature",
    "webhook-attempt",
)  # fmt: skip
"""The only headers of a request that are forwarded."""
USAGE = "Type `again`, `again 5` (the last five) or `again evt_…`."


class Forwarder:
    """Stores the last MAX_STORED events; the first of `keys` signs events that are sent again."""

    def __init__(self, session: aiohttp.ClientSession, url: str, keys: list[bytes]) -> None:
        self._session = session
        self._url = url
        self._keys = keys
        self._stored: deque[tuple[str, bytes]] = deque(maxlen=MAX_STORED)

    async def forward(self, headers: Mapping[str, str], body: bytes) -> tuple[int, str | None]:
        """Forwards a request; returns the status of the response, or 502 and why there is none."""
        self._stored.append((headers["webhook-id"], body))
        return await self._post(
            {name: headers[name] for name in FORWARDED_HEADERS if name in headers}, body
        )

    async def send_again(self, selection: str) -> list[tuple[str, int, str | None]]:
        """Sends events again; returns the id, the status and the fault of each.

        `selection`: empty (the last event), a number of events, or an event's id; ValueError if it
        selects none. Events are signed again, because receivers refuse old timestamps.
        """
        return [
            (event_id, *await self._post(sign_anew(self._keys[0], event_id, body), body))
            for event_id, body in self._choose(selection)
        ]

    def _choose(self, selection: str) -> list[tuple[str, bytes]]:
        if selection.startswith("evt_"):
            chosen = [stored for stored in self._stored if stored[0] == selection][-1:]
        else:
            count = int(selection or 1) if (selection or "1").isdecimal() else 0
            chosen = list(self._stored)[-count:] if count else []
        if not chosen:
            raise ValueError(f"No received event is selected. {USAGE}")
        return chosen

    async def _post(self, headers: Mapping[str, str], body: bytes) -> tuple[int, str | None]:
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status, None
        except (aiohttp.ClientError, OSError) as error:
            return BAD_GATEWAY, f"no response from {self._url} ({describe_error(error)})"


@asynccontextmanager
async def open_forwarder(url: str, keys: list[bytes]) -> AsyncIterator[Forwarder]:
    """A forwarder that waits up to TIMEOUT_S for each response."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        yield Forwarder(session, url, keys)


def sign_anew(key: bytes, event_id: str, body: bytes) -> dict[str, str]:
    """Makes the headers of a webhook request, signed with the current time."""
    timestamp = int(time.time())
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([key], event_id, timestamp, body),
        "webhook-attempt": "1",
    }


async def run_commands(
    forwarder: Forwarder, lines: AsyncIterator[str], report: Callable[[str], None]
) -> None:
    """Runs each line as a command to send events again, and reports the results."""
    async for line in lines:
        verb, _, selection = line.strip().partition(" ")
        if verb != "again":
            report(USAGE)
            continue
        try:
            for event_id, status, fault in await forwarder.send_again(selection.strip()):
                report(f"{event_id} again: {status}{f', {fault}' if fault else ''}")
        except ValueError as error:
            report(str(error))


async def read_lines(descriptor: int) -> AsyncIterator[str]:
    """Yields lines as they are typed, until the end of the file.

    A daemon thread reads them: the event loop cannot poll a terminal, a pipe and /dev/null alike,
    and a blocked read must not delay the end of the program.
    """
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        rest = b""
        try:
            while chunk := os.read(descriptor, 4096):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    loop.call_soon_threadsafe(lines.put_nowait, line.decode("utf-8", "replace"))
            loop.call_soon_threadsafe(lines.put_nowait, None)
        except (OSError, RuntimeError):  # OSError: no such file; RuntimeError: the loop has ended
            return

    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line
