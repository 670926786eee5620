"""GET /v1/leads and GET /v1/leads/search."""

from starlette.responses import Response

from service import lead_lists
from service.http import Call
from service.list_query import ListQuery
from service.replies import reply
from service.search_query import SearchQuery


async def list_leads(call: Call) -> Response:
    """GET: one page of leads."""
    query = call.query(ListQuery)
    return reply(await lead_lists.read_list(call.state.pool, call.principal, query))


async def search_leads(call: Call) -> Response:
    """GET: one page of hits."""
    query = call.query(SearchQuery)
    return reply(await call.state.search.read(call.principal, query))
