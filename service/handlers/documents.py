"""The API's description: /openapi.json for programs, the pages under /docs for people."""

from service.http.request import Request
from service.http.responses import HTML, Response, reply
from service.leads.etags import is_known

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A page loads its style, script, icon and search index from this service, and nothing else."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FOR_A_YEAR = "public, max-age=31536000, immutable"


async def send_openapi(request: Request) -> Response:
    """GET: the OpenAPI document; web pages of any origin may read it."""
    return reply(request.state.openapi, headers={"Access-Control-Allow-Origin": "*"})


async def lead_to_docs(_: Request) -> Response:
    """GET /: a redirect to the documentation."""
    return Response(b"", 307, [("Location", "/docs")], HTML)


async def send_docs(request: Request) -> Response:
    """GET: a page of the documentation, or a file that the pages load."""
    page = await request.state.find_page(request.path)
    headers = _HEADERS | {
        "ETag": page.etag,
        "Cache-Control": _FOR_A_YEAR if page.is_fixed else "no-cache",
    }
    if is_known(request.header(b"if-none-match"), page.etag):
        return Response(None, 304, headers.items())
    return Response(page.body, page.status, headers.items(), page.media_type)
