"""A client of Leadlog's API, for `leadlog listen` and `leadlog demo`."""

from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from service.cli.processes import StartError
from service.settings import SettingsError

TIMEOUT_S = 30.0


class _Error(msgspec.Struct):
    message: str


class _ErrorBody(msgspec.Struct):
    error: _Error


def open_api(url: str, key: str) -> aiohttp.ClientSession:
    """A session that authenticates with the key; the caller closes it.

    Raises SettingsError if the URL or the key is malformed.
    """
    if not key.isascii() or not key.isprintable():
        raise SettingsError("The option --key must be an API key: sk_live_… or sk_test_….")
    return aiohttp.ClientSession(
        read_api_url(url),
        headers={"Authorization": f"Bearer {key.strip()}"},
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
    )


def read_api_url(text: str) -> str:
    """The URL of an API, without a final slash. Raises SettingsError for other text."""
    try:
        url = URL(text)
        if url.scheme in {"http", "https"} and url.host and url.relative() in {URL("/"), URL()}:
            return str(url.origin())
    except ValueError:
        pass
    raise SettingsError(
        "The option --url must be the address of an API, such as http://127.0.0.1:8080, "
        f"without a path; {text!r} is not."
    )


async def call_api(
    session: aiohttp.ClientSession, method: str, path: str, body: object = None, **query: str | int
) -> bytes:
    """The body of the response. Raises StartError, with the API's error message if there is one."""
    sent: dict[str, Any] = {} if body is None else {"json": body}
    try:
        async with session.request(method, path, params=query, **sent) as response:
            return _check_response(response.status, response.content_type, await response.read())
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise StartError(
            f"Leadlog's API does not respond there ({str(error) or 'no response in time'}): "
            "is `leadlog dev` running, and is --url right?"
        ) from error


def _check_response(status: int, content_type: str, content: bytes) -> bytes:
    """Returns the content. Raises StartError for an API error, ValueError for another server."""
    if status == HTTPStatus.NO_CONTENT:
        return content
    if content_type != "application/json":
        raise ValueError(f"status {status}, {content_type}")
    if status < HTTPStatus.BAD_REQUEST:
        return content
    message = msgspec.json.decode(content, type=_ErrorBody).error.message
    raise StartError(f"The API refused the request: {message}")
