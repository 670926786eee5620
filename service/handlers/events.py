"""/v1/events: the log of one tenant and mode, by cursor, with waiting."""

import asyncio
import time
from contextlib import suppress

from starlette.responses import Response

from service.events import EventQuery, Found, Place, encode_page, find_events, find_place
from service.http.call import Call
from service.http.replies import reply


async def list_events(call: Call) -> Response:
    """GET: a page after the cursor; with `wait`, not before there is an event or time is up."""
    query = call.query(EventQuery)
    place = await find_place(call.state.pool, query.after)
    if query.wait:
        found = await _wait_for_events(call, place, query)
    else:
        found = await find_events(call.state.pool, call.principal, place, query)
    return reply(encode_page(found, query.limit))


async def _wait_for_events(call: Call, place: Place, query: EventQuery) -> Found:
    end = time.monotonic() + query.wait
    who = call.principal
    async with call.state.feed.listen((who.tenant_id, who.live)) as news:
        while True:
            if news is not None:
                news.clear()  # before the look: what comes after it sets it again
            found = await find_events(call.state.pool, who, place, query)
            place, left_s = found.after, end - time.monotonic()
            if found.events or left_s <= 0 or news is None or call.state.feed.is_closed:
                return found
            if not found.more:
                with suppress(TimeoutError), call.state.gate.resting():
                    async with asyncio.timeout(left_s):
                        await news.wait()
                await call.state.auth.authenticate(call.header("authorization"), "read")
