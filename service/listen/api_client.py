"""Calls of our own API, for the commands that are a subscriber's tools."""

from typing import Any

import aiohttp

from service.processes import StartError

_FIRST_ERROR = 400


def open_api(url: str, key: str) -> aiohttp.ClientSession:
    """A session that calls as the bearer of the key; to be closed."""
    return aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"})


async def call_api(
    session: aiohttp.ClientSession, method: str, path: str, body: object = None, **query: str | int
) -> bytes:
    """The answer's body. Raises StartError, with the API's own sentence where it gives one."""
    sent: dict[str, Any] = {} if body is None else {"json": body}
    try:
        async with session.request(method, path, params=query, **sent) as response:
            content = await response.read()
            if response.status < _FIRST_ERROR:
                return content
            answer = await response.json()
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise StartError(
            f"No Leadlog answers there ({error}): is `leadlog dev` running, and is --url right?"
        ) from error
    raise StartError(f"The API did not take it: {answer['error']['message']}")
