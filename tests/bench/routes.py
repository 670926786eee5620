"""The paths that each workload requests, and the check that a server answers them."""

import json
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import aiohttp

from tests.bench.fill import FEW, MANY, pick_rare
from tests.bench.plan import Workload
from tests.bench.programs import LoadError
from tests.bench.targets import Server

LIMIT = 25
DEEP_PAGE = 10_000
STRIDE = 100
"""The size of the pages on the way to the deep page: the largest permitted size."""


class UnservedError(LoadError):
    """A server does not serve a workload's request; the message contains its response."""


async def find_paths(workload: Workload, server: Server) -> list[str]:
    """The paths of a workload of kind `paths`, else none; one request checks that it works.

    Raises UnservedError if it does not.
    """
    headers = {"Authorization": f"Bearer {server.key}"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        if workload.kind == "paths":
            return await _choose_paths(workload.name, session, server.leads)
        lead = f"/v1/leads/lead_01J{1:023d}"
        match workload.kind:
            case "get":
                await _ask(session, "GET", lead)
            case "patch":
                await _ask(session, "PATCH", lead, {"title": "Director"})
            case "post":
                address = f"probe.{secrets.token_hex(8)}@acme-corp.com"
                await _ask(session, "POST", "/v1/leads", {"email": address})
        return []


async def _choose_paths(name: str, session: aiohttp.ClientSession, leads: int) -> list[str]:
    match name:
        case "deep":
            cursor = await _find_cursor(session, min(LIMIT * DEEP_PAGE, leads) - LIMIT)
            return [f"/v1/leads?limit={LIMIT}&cursor={cursor}"]
        case "search_few" | "search_typo" | "search_many":
            paths = [
                f"/v1/leads/search?q={quote(word)}&limit={LIMIT}"
                for word in choose_questions(name, leads)
            ]
        case _:
            paths = [f"/v1/leads?limit={LIMIT}"]
    await _ask(session, "GET", paths[0])
    return paths


def choose_questions(name: str, leads: int) -> Sequence[str]:
    """The search words of a workload."""
    if name != "search_typo":
        return FEW if name == "search_few" else MANY
    rare = pick_rare(leads, 40)
    typos = [word[:3] + word[4:] for word in rare[::2]]
    return [*typos, *(word[2:] for word in rare[1::2])]


async def _find_cursor(session: aiohttp.ClientSession, rows: int) -> str:
    """The cursor after `rows` rows, found page by page as a client does."""
    cursor = ""
    left = rows
    while left > 0:
        limit = min(STRIDE, left)
        after = f"&cursor={cursor}" if cursor else ""
        page = await _ask(session, "GET", f"/v1/leads?limit={limit}{after}")
        cursor = page["pagination"].get("nextCursor")
        if not cursor:
            raise UnservedError("the list's pages have no nextCursor")
        left -= limit
    return cursor


async def count_matches(server: Server, paths: list[str]) -> list[int]:
    """The `total` in the response of each path."""
    headers = {"Authorization": f"Bearer {server.key}"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        return [(await _ask(session, "GET", path))["pagination"]["total"] for path in paths]


async def _ask(session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    sent = None if body is None else json.dumps(body)
    headers = {} if body is None else {"Content-Type": "application/json"}
    async with session.request(method, path, data=sent, headers=headers) as response:
        answer = await response.read()
        if not response.ok:
            route = path.partition("?")[0]
            raise UnservedError(f"{method} {route} is answered with {response.status}")
        return json.loads(answer)
