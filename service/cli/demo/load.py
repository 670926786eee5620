"""Sends leads to the API over HTTP, many at a time, and collects the responses."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp

from service.cli.processes import StartError

MAX_ATTEMPTS = 8
"""Attempts per lead while the service is overloaded (503) or cannot be reached."""
AWAY_LIMIT_S = 20.0
"""Without any response for so long, the service is considered away for good."""


@dataclass
class LoadResult:
    """The responses of the API. `lead_ids` has each lead once, however often it was sent."""

    lead_ids: set[str] = field(default_factory=set)
    responses: Counter[str] = field(default_factory=Counter)
    """The number of responses by HTTP status, and of connection errors by name."""
    refused: list[str] = field(default_factory=list)
    """One line for each lead that was not created: refused, or given up after all attempts."""
    seconds: float = 0.0
    responded_at: float = field(default_factory=time.monotonic)


async def post_leads(
    url: str,
    key: str,
    leads: Iterator[dict[str, Any]],
    concurrency: int,
    on_done: Callable[[], None],
) -> LoadResult:
    """Posts every lead; calls `on_done` after each.

    Raises StartError, in a group, if the API is away.
    """
    result = LoadResult()
    began = time.monotonic()
    connector = aiohttp.TCPConnector(limit=concurrency)
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(concurrency):
            group.create_task(_post_until_empty(session, f"{url}/v1/leads", leads, result, on_done))
    result.seconds = time.monotonic() - began
    return result


async def _post_until_empty(
    session: aiohttp.ClientSession,
    url: str,
    leads: Iterator[dict[str, Any]],
    result: LoadResult,
    on_done: Callable[[], None],
) -> None:
    for lead in leads:  # all tasks share one iterator
        await _post_one(session, url, lead, result)
        on_done()


async def _post_one(
    session: aiohttp.ClientSession, url: str, lead: dict[str, Any], result: LoadResult
) -> None:
    for attempt in range(MAX_ATTEMPTS):
        try:
            async with session.post(url, json=lead) as response:
                body = await response.json()
                result.responses[str(response.status)] += 1
                result.responded_at = time.monotonic()
                if response.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    _record(response.status, body, attempt, result)
                    return
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # a proxy sends HTML
            result.responses[type(error).__name__] += 1
            if time.monotonic() - result.responded_at > AWAY_LIMIT_S:
                raise StartError(
                    f"The API at {url} has not responded for {AWAY_LIMIT_S:.0f} s: is it running?"
                ) from error
        await asyncio.sleep(0.1 * 2**attempt)
    result.refused.append(f"gave up after {MAX_ATTEMPTS} attempts: {lead['email']}")


def _record(status: int, body: dict[str, Any], attempt: int, result: LoadResult) -> None:
    if status == HTTPStatus.CREATED:
        result.lead_ids.add(body["id"])
    elif status == HTTPStatus.CONFLICT and attempt:  # an earlier attempt created it
        result.lead_ids.add(body["error"]["existingLeadId"])
    else:
        result.refused.append(f"{status} {body}")
