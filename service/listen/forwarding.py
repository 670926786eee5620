"""Passes on what `leadlog listen` hears to a server of the subscriber's, once or again."""

import asyncio
import base64
import hmac
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp

KEPT = 1000
TIMEOUT_S = 30.0
BAD_GATEWAY = 502
PASSED_ON = (
    "content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature",
    "webhook-attempt",
)  # fmt: skip
"""Only these of a request's headers are passed on."""
USAGE = "Type `again`, `again 5` (the last five) or `again evt_…`."


class Forwarder:
    """Remembers the last KEPT events; `keys` sign those that are sent again."""

    def __init__(self, session: aiohttp.ClientSession, url: str, keys: list[bytes]) -> None:
        self._session = session
        self._url = url
        self._keys = keys
        self._kept: deque[tuple[str, bytes]] = deque(maxlen=KEPT)

    async def pass_on(self, headers: Mapping[str, str], body: bytes) -> int:
        """The status that the server answers; 502 if it does not."""
        self._kept.append((headers["webhook-id"], body))
        return await self._post(
            {name: headers[name] for name in PASSED_ON if name in headers}, body
        )

    async def send_again(self, which: str) -> list[tuple[str, int]]:
        """Event and status of each. `which`: nothing (the last), a number, or an event's id.

        Signed anew, for a receiver refuses what is minutes old. ValueError: none is meant.
        """
        return [
            (event_id, await self._post(sign_anew(self._keys[0], event_id, body), body))
            for event_id, body in self._choose(which)
        ]

    def _choose(self, which: str) -> list[tuple[str, bytes]]:
        if which.startswith("evt_"):
            chosen = [kept for kept in self._kept if kept[0] == which][-1:]
        else:
            count = int(which or 1) if (which or "1").isdecimal() else 0
            chosen = list(self._kept)[-count:] if count else []
        if not chosen:
            raise ValueError(f"Nothing that was received is meant. {USAGE}")
        return chosen

    async def _post(self, headers: Mapping[str, str], body: bytes) -> int:
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return BAD_GATEWAY


@asynccontextmanager
async def open_forwarder(url: str, keys: list[bytes]) -> AsyncIterator[Forwarder]:
    """Whoever it forwards to has TIMEOUT_S."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        yield Forwarder(session, url, keys)


def sign_anew(key: bytes, event_id: str, body: bytes) -> dict[str, str]:
    """Headers as of now; see workers/delivery/signing.py, which signs what Leadlog sends."""
    timestamp = str(int(time.time()))
    message = b"%b.%b.%b" % (event_id.encode(), timestamp.encode(), body)
    signature = base64.b64encode(hmac.digest(key, message, "sha256")).decode()
    return {
        "content-type": "application/json", "webhook-id": event_id,
        "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}",
        "webhook-attempt": "1",
    }  # fmt: skip


async def obey_forever(
    forwarder: Forwarder, lines: AsyncIterator[str], say: Callable[[str], None]
) -> None:
    """Sends again what each line asks for, and says what came of it."""
    async for line in lines:
        verb, _, which = line.strip().partition(" ")
        if verb != "again":
            say(USAGE)
            continue
        try:
            for event_id, status in await forwarder.send_again(which.strip()):
                say(f"{event_id} again: {status}")
        except ValueError as error:
            say(str(error))


async def read_lines(descriptor: int) -> AsyncIterator[str]:
    """Lines as they are typed, until the end of the file.

    By a thread that nobody waits for: a terminal, a pipe and /dev/null cannot all be polled, and a
    blocked read would hold up the end of the program.
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
        except (OSError, RuntimeError):  # no such file; the loop has ended
            return

    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line
