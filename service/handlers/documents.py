"""The API's description: /openapi.json for programs, /docs for people."""

from service.http.request import Request
from service.http.responses import HTML, Response, reply


async def send_openapi(request: Request) -> Response:
    """GET: the OpenAPI document; web pages of any origin may read it."""
    return reply(request.state.openapi, headers={"Access-Control-Allow-Origin": "*"})


async def send_docs(request: Request) -> Response:
    """GET: the HTML page, which has no scripts and loads nothing from other hosts."""
    page = request.state.docs
    headers = {
        "Content-Security-Policy": page.policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return Response(page.html, 200, headers.items(), HTML)
