"""A Starlette app that does the minimum for a request: no key, no database, no log."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def reply_nothing(_: Request) -> Response:
    return Response(b"{}", media_type="application/json")


def create_app() -> Starlette:
    return Starlette(
        routes=[Route("/v1/leads/{id}", reply_nothing), Route("/health/ready", reply_nothing)]
    )
