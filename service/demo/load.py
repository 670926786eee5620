"""Sends lead bodies to the API over HTTP, many at a time, and remembers what came of each."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

TRIES = 8
"""Of one lead, while the service is away or overloaded (503) or the connection is lost."""


@dataclass
class LoadResult:
    """What the API said. `lead_ids` has each lead once, however often it was sent."""

    lead_ids: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    """HTTP statuses, and names of connection errors, by how often they came."""
    refused: list[str] = field(default_factory=list)
    """The first few answers that were neither success nor worth another try."""
    seconds: float = 0.0


async def post_leads(
    url: str,
    key: str,
    leads: Iterator[dict[str, Any]],
    concurrency: int,
    on_done: Callable[[], None],
) -> LoadResult:
    """Posts every lead; `on_done` is called after each."""
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
    for lead in leads:  # one iterator for all: whoever is free takes the next
        await _post_one(session, url, lead, result)
        on_done()


async def _post_one(
    session: aiohttp.ClientSession, url: str, lead: dict[str, Any], result: LoadResult
) -> None:
    for attempt in range(TRIES):
        try:
            async with session.post(url, json=lead) as response:
                body = await response.json()
                result.answers[str(response.status)] += 1
                if response.status != 503:  # noqa: PLR2004
                    _settle(response.status, body, attempt, result)
                    return
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            result.answers[type(error).__name__] += 1
        await asyncio.sleep(0.1 * 2**attempt)
    result.refused.append(f"gave up after {TRIES} tries: {lead['email']}")


def _settle(status: int, body: dict[str, Any], attempt: int, result: LoadResult) -> None:
    if status == 201:  # noqa: PLR2004
        result.lead_ids.add(body["id"])
    elif status == 409 and attempt:  # noqa: PLR2004  # an earlier try whose answer was lost made it
        result.lead_ids.add(body["error"]["existingLeadId"])
    else:
        result.refused.append(f"{status} {body}")
