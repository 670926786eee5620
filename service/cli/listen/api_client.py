"""A client of Leadlog's API, for `leadlog listen` and `leadlog demo`."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import msgspec
from yarl import URL

from service.cli.processes import StartError
from service.settings import SettingsError
from sql.errors import describe_error

TIMEOUT_S = 30.0
_API_KEY = re.compile(r"sk_(live|test)_")
KEY_OPTION = "The option --key"
Body = TypeVar("Body")


class ApiError(StartError):
    """A response that is not what was asked for; `status` is 0 if it is not even HTTP."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiAccess(msgspec.Struct, frozen=True):
    """How to reach the API; `key_source` says where the key is from, for messages."""

    url: str
    key: str
    key_source: str = KEY_OPTION


class _Error(msgspec.Struct):
    message: str


class _ErrorBody(msgspec.Struct):
    error: _Error


class ApiClient:
    """Calls the API at one address with one key."""

    def __init__(self, url: str, session: aiohttp.ClientSession, key_source: str) -> None:
        self.url = url
        self._session = session
        self._key_source = key_source

    async def call(
        self, method: str, path: str, kind: type[Body], body: object = None, **query: str | int
    ) -> Body:
        """The body of the response, decoded.

        Raises ApiError with the API's message, and StartError if there is no API.
        """
        try:
            return msgspec.json.decode(await self._request(method, path, body, query), type=kind)
        except msgspec.DecodeError as error:
            raise self._other_server("its JSON is of another API") from error

    async def delete(self, path: str) -> None:
        """Deletes what the path names. Raises as `call`."""
        await self._request("DELETE", path, None, {})

    async def _request(
        self, method: str, path: str, body: object, query: Mapping[str, str | int]
    ) -> bytes:
        sent: dict[str, Any] = {} if body is None else {"json": body}
        try:
            async with self._session.request(
                method, path, params=query, allow_redirects=False, **sent
            ) as response:
                return self._check(response, await response.read())
        except aiohttp.ClientResponseError as error:
            raise self._other_server("its response is not HTTP") from error
        except aiohttp.ServerDisconnectedError as error:
            raise self._other_server("it closed the connection without a response") from error
        except (aiohttp.ClientError, OSError) as error:
            raise StartError(
                f"The API at {self.url} cannot be reached ({describe_error(error)}): is "
                "`leadlog dev` or `leadlog serve` running there, and is --url right?"
            ) from error

    def _check(self, response: aiohttp.ClientResponse, content: bytes) -> bytes:
        """Returns the content of a successful response; raises for others."""
        if response.status == HTTPStatus.NO_CONTENT:
            return content
        if response.content_type != "application/json":
            kind = response.content_type
            reason = f"its response has status {response.status}, {kind}"
            raise self._other_server(reason, response.status)
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            return content
        try:
            message = msgspec.json.decode(content, type=_ErrorBody).error.message
        except msgspec.DecodeError as error:
            reason = f"its response has status {response.status}, with JSON of another API"
            raise self._other_server(reason, response.status) from error
        key = f" with the key of {self._key_source[:1].lower()}{self._key_source[1:]}"
        is_about_key = response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        text = f"The API at {self.url} refused the request{key if is_about_key else ''}: {message}"
        raise ApiError(text, response.status)

    def _other_server(self, reason: str, status: int = 0) -> ApiError:
        text = f"The server at {self.url} is not Leadlog's API ({reason}): is --url right?"
        return ApiError(text, status)


@asynccontextmanager
async def open_api(access: ApiAccess) -> AsyncIterator[ApiClient]:
    """A client for the API. Raises SettingsError if the URL or the key is malformed."""
    address = read_api_url(access.url)
    key = read_api_key(access.key, access.key_source)
    async with aiohttp.ClientSession(
        address,
        headers={"Authorization": f"Bearer {key}"},
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
    ) as session:
        yield ApiClient(address, session, access.key_source)


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


def read_api_key(text: str, source: str = KEY_OPTION) -> str:
    """The API key without blanks around it. Raises SettingsError for text that cannot be one.

    `source`: where the key comes from. The API checks what this cannot know.
    """
    key = text.strip()
    match = _API_KEY.match(key)
    if match is None:
        raise SettingsError(
            f"{source} must have an API key, sk_live_… or sk_test_…, with nothing before it; "
            f"{_describe_other(key)}."
        )
    if (secret := key[match.end() :]) and not (secret.isascii() and secret.isalnum()):
        raise SettingsError(
            f"{source} must have an API key: only letters and digits may follow {match[0]}; was "
            "more than the key copied?"
        )
    return key


def _describe_other(key: str) -> str:
    """What the text is instead of an API key, without a part that may be secret."""
    if not key:
        return "it is empty"
    known = {"Bearer": "this begins with Bearer", "whsec_": "this is a webhook's secret",
             "key_": "this is the id of a key, see `leadlog keys create`"}  # fmt: skip
    return next((words for start, words in known.items() if key.startswith(start)), "this is not")
