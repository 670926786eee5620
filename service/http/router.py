"""Finds the resource of a path by its segments.

Starlette's router tries one regular expression after the other, which took a twentieth of the time
of a GET (py-spy), and treats `%2F` as a separator. It serves only the lifespan here.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from starlette.routing import Router
from starlette.types import Scope

from service.errors import NotFound
from service.http.request import Request
from service.http.resource import Resource
from service.http.responses import Response


class Node:
    """The continuations of a path: literal segments, any segment, or its end."""

    __slots__ = ("literals", "names", "parameter", "resource")

    def __init__(self) -> None:
        self.literals: dict[str, Node] = {}
        self.parameter: Node | None = None
        self.resource: Resource | None = None
        self.names: list[str] = []
        """The names of the parameters on the path to this node."""

    def follow(self, segment: str) -> "Node":
        """The node after a segment of a route; created if it is missing."""
        if not segment.startswith("{"):
            return self.literals.setdefault(segment, Node())
        if self.parameter is None:
            self.parameter = Node()
        return self.parameter


class SegmentRouter(Router):
    """Routes such as `/leads/{id}`; a literal segment wins over a parameter."""

    def __init__(self, resources: Mapping[str, Resource], **options: Any) -> None:
        """`resources` by path; `options` are Starlette's."""
        super().__init__(**options)
        self._root = Node()
        for path, resource in resources.items():
            self._add(path, resource)

    async def respond(self, request: Request) -> Response:
        """The response of the resource at the request's path. Raises Problem; see Resource."""
        resource, parameters = self.find(split_path(request.scope))
        if resource is None:
            message = f"There is no route {request.path[:200]}; /openapi.json lists them."
            raise NotFound(message)
        request.path_params = parameters
        return await resource.respond(request)

    def find(self, segments: list[str]) -> tuple[Resource | None, dict[str, str]]:
        """The resource and the values of the path's parameters; None: no route has this path."""
        node = self._root
        values: list[str] = []
        for segment in segments:
            following = node.literals.get(segment)
            if following is None:
                following = node.parameter
                if following is None or not segment:
                    return None, {}
                values.append(segment)
            node = following
        return node.resource, dict(zip(node.names, values, strict=False))

    def _add(self, path: str, resource: Resource) -> None:
        node = self._root
        segments = path.split("/")
        for segment in segments:
            node = node.follow(segment)
        if node.resource is None:
            node.resource = resource
            node.names = [segment[1:-1] for segment in segments if segment.startswith("{")]


def split_path(scope: Scope) -> list[str]:
    """The segments of the path; a slash that is written `%2F` is part of a segment."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%" in raw:
        return [unquote(segment) for segment in raw.decode("ascii").split("/")]
    path: str = scope["path"]
    return path.split("/")
