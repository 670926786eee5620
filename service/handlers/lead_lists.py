"""GET /v1/leads and GET /v1/leads/search."""

from starlette.responses import Response

from service.http.call import Call
from service.http.replies import reply
from service.leads.list_query import ListQuery
from service.leads.lists import read_list
from service.leads.search_query import SearchQuery


async def list_leads(call: Call) -> Response:
    """GET: one page of leads."""
    query = call.query(ListQuery)
    return reply(await read_list(call.state.pool, call.principal, query))


async def search_leads(call: Call) -> Response:
    """GET: one page of hits."""
    query = call.query(SearchQuery)
    return reply(await call.state.search.read(call.principal, query))
