"""The router finds what Starlette's finds, and leaves the rest to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from service.app import API, PREFIXES
from service.http.routing import SegmentRouter

SEGMENTS = ["v1", "api", "leads", "search", "{}", "", "lead_1", "webhooks", "score", "deliveries"]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(str(scope["path_params"]))(scope, receive, send)


ROUTES = [
    Route(path, answer)
    for path in dict.fromkeys(prefix + op.path for prefix in PREFIXES for op in API)
]
for route in ROUTES:
    route.app = answer
ROUTER = SegmentRouter(ROUTES)


@given(st.lists(st.sampled_from(SEGMENTS), max_size=7))
def test_it_finds_what_one_regular_expression_after_the_other_finds(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    scope = {"type": "http", "path": path, "method": "GET"}
    wanted = None
    for route in ROUTES:
        match, child = route.matches(scope)
        if match is not Match.NONE:
            wanted = (route.path, list(child["path_params"].values()))
            break
    found, values = ROUTER._find(path)
    assert (None if found is None else (found.path, values)) == wanted


@pytest.mark.parametrize(("path", "status"), [("/v1/leads/a%2Fb", 200), ("/v1/nothing", 404)])
async def test_parameters_are_as_they_are_and_strangers_are_not_found(
    path: str, status: int
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "path": path, "method": "GET", "headers": [], "root_path": ""}
    await ROUTER(scope, receive, send)
    assert sent[0]["status"] == status
    if status == 200:
        assert sent[1]["body"] == str({"id": path.rpartition("/")[2]}).encode()
