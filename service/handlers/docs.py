"""The API's description: for programs, and for people."""

from starlette.responses import Response

from service.http.call import Call
from service.http.replies import reply


async def send_openapi(call: Call) -> Response:
    """The OpenAPI document; any page may read it."""
    return reply(call.state.openapi, headers={"Access-Control-Allow-Origin": "*"})


async def send_docs(call: Call) -> Response:
    """One page without scripts and without anything from elsewhere."""
    page = call.state.docs
    headers = {
        "Content-Security-Policy": page.policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return Response(page.html, media_type="text/html; charset=utf-8", headers=headers)
