"""GET /v1/leads and GET /v1/leads/search."""

from service.http.request import Request
from service.http.responses import Response, reply
from service.leads.listing.pages import read_list
from service.leads.listing.query import ListQuery
from service.leads.search.query import SearchQuery


async def list_leads(request: Request) -> Response:
    """GET: one page of leads."""
    query = request.query(ListQuery)
    return reply(await read_list(request.state.pool, request.principal, query))


async def search_leads(request: Request) -> Response:
    """GET: one page of hits."""
    query = request.query(SearchQuery)
    return reply(await request.state.search.read(request.principal, query))
