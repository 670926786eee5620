"""/v1/events: the log of one tenant and mode, by cursor, with waiting."""

import asyncio
from contextlib import AsyncExitStack

from service.errors import Overloaded
from service.events.feed import (
    EventQuery,
    FeedPage,
    FeedPosition,
    encode_page,
    find_events,
    find_position,
)
from service.http.request import Request
from service.http.responses import Response, reply
from service.load.load_shedder import waiting

TENANT_HEADER = "Leadlog-Tenant"
"""Names the key's tenant as the CRM streams do; connectors choose their events by it."""


async def list_events(request: Request) -> Response:
    """GET: the page after the cursor; with `wait`, once there is an event or the time is up."""
    query, cipher = request.query(EventQuery), await request.state.numbers.open()
    position = await find_position(request.state.pool, query.after, cipher)
    if query.wait:
        found = await _wait_for_events(request, position, query)
    else:
        found = await find_events(request.state.pool, request.principal, position, query)
    headers = {TENANT_HEADER: str(request.principal.tenant_id)}
    return reply(encode_page(found, query.limit, cipher), headers=headers)


async def _wait_for_events(request: Request, position: FeedPosition, query: EventQuery) -> FeedPage:
    """The first page with events; when the time is up, an empty page with the latest cursor.

    A poll that was admitted is not refused later, because its caller would lose the whole wait.
    """
    who, polls = request.principal, request.state.long_polls
    loop = asyncio.get_running_loop()
    end = loop.time() + query.wait
    async with polls.listen((who.tenant_id, who.live)) as news:
        found = await _read(request, query, FeedPage([], position, more=True), end)
        while news is not None and not (
            found.events or polls.is_closed or request.has_client_left or loop.time() >= end
        ):
            try:
                found = await _read(request, query, found, end, news)
            except Overloaded:
                return FeedPage([], found.after, more=True)
    return found


async def _read(
    request: Request,
    query: EventQuery,
    found: FeedPage,
    end: float,
    news: asyncio.Event | None = None,
) -> FeedPage:
    """The page after `found`, once there may be events; `found` itself when the time is up.

    `news` is None in the first read of a poll. Later reads check the key again, because it may
    have been revoked.
    """
    polls = request.state.long_polls
    async with AsyncExitStack() as turn:
        try:
            async with waiting(skips_share=True), asyncio.timeout_at(end):
                with request.waiting_for(news or asyncio.Event()):
                    if news is not None and not found.more:
                        await news.wait()
                    await turn.enter_async_context(polls.take_turn())
        except TimeoutError:
            return found
        if news is not None:
            if polls.is_closed or request.has_client_left:
                return found
            news.clear()  # before reading: an event that comes later sets it again
            await request.state.auth.authenticate(request.header(b"authorization"), "read")
        return await find_events(request.state.pool, request.principal, found.after, query)
