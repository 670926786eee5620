"""The router finds the same routes as Starlette's router."""

from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Match, Route

from service.app import API, PREFIXES, make_resources
from service.http.responses import no_content
from service.http.router import SegmentRouter, split_path

SEGMENTS = ["v1", "api", "leads", "search", "{}", "", "lead_1", "webhooks", "score", "deliveries"]
RESOURCES = make_resources(API, *PREFIXES)
ROUTER = SegmentRouter(RESOURCES)
ROUTES = [Route(path, lambda _: no_content()) for path in RESOURCES]


@given(st.lists(st.sampled_from(SEGMENTS), max_size=7))
def test_the_router_finds_the_same_route_as_starlette(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    scope = {"type": "http", "path": path, "method": "GET"}
    wanted = None
    for route in ROUTES:
        match, child = route.matches(scope)
        if match is not Match.NONE:
            wanted = RESOURCES[route.path], child["path_params"]
            break
    found, parameters = ROUTER.find(path.split("/"))
    assert (None if found is None else (found, parameters)) == wanted


def test_a_percent_encoded_slash_is_part_of_a_segment() -> None:
    scope = {"path": "/v1/leads/a/b", "raw_path": b"/v1/leads/a%2Fb"}
    found, parameters = ROUTER.find(split_path(scope))
    assert found is RESOURCES["/v1/leads/{id}"]
    assert parameters == {"id": "a/b"}


def test_a_path_of_no_route_is_not_found() -> None:
    assert ROUTER.find(["", "v1", "nothing"]) == (None, {})
