"""The pages of /docs: complete, linked, of one origin, and sent as pages are."""

import json
import re
from collections.abc import Iterator
from html import unescape
from itertools import pairwise
from typing import Any, get_args
from urllib.parse import urldefrag, urljoin

import pytest

from service.app import API, SERVICE
from service.docs.curl_commands import ADDRESS, REQUIRE_KEY, SET_ADDRESS
from service.docs.guides import SECTIONS
from service.docs.rendering import render_site
from service.errors import Problem
from service.events.event_types import EventType
from service.http.responses import HTML, StaticPage
from service.settings import Settings
from tests.harness.api_client import Api

Pages = dict[str, StaticPage]
_SET = re.compile(
    r'^\s*(?:(?:\[ -n "\$\w+" \] \|\| )?export )?([A-Z_]+)=|^: "\$\{([A-Z_]+):\?', re.MULTILINE
)
_USED = re.compile(r"\$\{?([A-Z_]+)")


def list_html(pages: Pages) -> Iterator[tuple[str, str]]:
    for path, page in pages.items():
        if page.media_type == HTML:
            yield path, page.body.decode()


def find_ids(html: str) -> list[str]:
    return re.findall(r'\sid="([^"]+)"', html)


def find_links(html: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'\s(?:href|src|data-index)="([^"]*)"', html)]


def find_code(html: str, language: str) -> list[str]:
    blocks = re.findall(rf'<code class="{language}">(.*?)</code></pre>', html, re.DOTALL)
    return [unescape(re.sub(r"<[^>]+>", "", block)) for block in blocks]


def list_problems(kind: type[Problem] = Problem) -> Iterator[type[Problem]]:
    for each in kind.__subclasses__():
        yield each
        yield from list_problems(each)


def test_every_operation_and_every_guide_has_a_page(pages: Pages) -> None:
    for operation in (*API, *SERVICE):
        name = operation.handler.__name__.replace("_", "-")
        html = pages[f"/docs/reference/{name}"].body.decode()
        prefix = "/v1" if operation in API else ""
        assert f"{operation.method}</span>" in html
        assert prefix + operation.path in html.replace("<wbr>", "")
    for names in SECTIONS.values():
        for name in names:
            assert f"/docs/{name}" in pages


def test_every_link_leads_to_a_page_and_an_anchor_of_this_service(pages: Pages) -> None:
    anchors = {path: set(find_ids(html)) for path, html in list_html(pages)}
    known = set(pages) | {operation.path for operation in SERVICE}
    for path, html in list_html(pages):
        links = find_links(html)
        assert links
        for link in links:
            target, anchor = urldefrag(urljoin(path, link))
            assert target in known, (path, link)
            assert not anchor or anchor in anchors[target], (path, link)


def test_no_page_has_an_id_twice_or_names_another_host(pages: Pages) -> None:
    for path, html in list_html(pages):
        ids = find_ids(html)
        assert len(ids) == len(set(ids)), path
        outside = re.sub(r"<pre.*?</pre>", "", html, flags=re.DOTALL)
        assert not re.search(r"(?:href|src|action)=\"(?:https?:)?//|@import|url\(", outside), path
        assert not re.search(r"<(?:style|iframe|img|form|object)\b|\son\w+=|\sstyle=", outside), (
            path
        )


def test_every_page_has_a_title_a_description_and_one_first_heading(pages: Pages) -> None:
    titles = []
    for path, html in list_html(pages):
        titles += re.findall(r"<title>(.+?)</title>", html)
        assert re.search(r'<meta name="description" content="[^"]{10,}">', html), path
        assert html.count("<h1>") == 1, path
        assert html.startswith("<!doctype html>"), path
        assert 'lang="en"' in html, path
    assert len(titles) == len(set(titles))


def test_guides_are_linked_one_after_the_other(pages: Pages) -> None:
    names = [f"/docs/{name}" for names in SECTIONS.values() for name in names]
    for before, after in pairwise(names):
        assert f'rel="next" href="{after}"' in pages[before].body.decode()
        assert f'rel="prev" href="{before}"' in pages[after].body.decode()


@pytest.mark.parametrize(
    ("code", "status"), sorted({(kind.code, kind.status) for kind in list_problems()})
)
def test_every_error_has_a_section_with_its_status(pages: Pages, code: str, status: int) -> None:
    html = pages["/docs/errors"].body.decode()
    assert re.search(rf'<h3 id="{code}"><code[^>]*>{code}</code> \({status}\) ', html)


async def test_the_doc_url_of_an_error_leads_to_its_section(api: Api) -> None:
    error = (await api.get("/v1/leads/nosuch")).error
    base = "https://leadlog.test"  # PUBLIC_DOCS_URL of the tests is its /docs
    path, anchor = urldefrag(error["doc_url"].removeprefix(base))
    assert (path, anchor) == ("/docs/errors", "not_found")
    assert anchor in find_ids((await api.get(path)).body.decode())


@pytest.mark.parametrize("event_type", get_args(EventType))
def test_every_type_of_event_is_in_the_catalogue(pages: Pages, event_type: str) -> None:
    assert f'<h3 id="{event_type}">{event_type} ' in pages["/docs/events"].body.decode()


def test_every_example_sets_the_variables_that_it_uses(pages: Pages) -> None:
    for path, html in list_html(pages):
        known: set[str] = set()
        for code in find_code(html, "sh"):
            known |= {name for found in _SET.findall(code) for name in found}
            assert set(_USED.findall(code)) <= known, path


def test_examples_keep_the_address_and_the_key_that_their_reader_has_set(pages: Pages) -> None:
    """The quickstart sets both; its reader pastes whole blocks of all other pages."""
    for path, html in list_html(pages):
        for code in find_code(html, "sh")[:1]:
            lines = code.splitlines()
            if path == "/docs/quickstart":
                assert lines == [f"export LEADLOG_URL={ADDRESS}", "export LEADLOG_KEY=sk_live_…"]
            elif "LEADLOG_KEY" in code:
                assert lines[:2] == [SET_ADDRESS, REQUIRE_KEY], path
            else:
                assert lines[0] == SET_ADDRESS, path
        assert "LEADLOG_KEY=sk" not in "".join(find_code(html, "sh")).replace(REQUIRE_KEY, "") or (
            path == "/docs/quickstart"
        )


def test_the_script_finds_the_address_in_one_piece(pages: Pages) -> None:
    """It replaces the address in texts, which colours must not cut."""
    for path, html in list_html(pages):
        assert html.count(ADDRESS) == re.sub(r"<[^>]+>", "", html).count(ADDRESS), path


def test_a_title_begins_with_what_people_look_for(document: dict[str, Any]) -> None:
    titles = {
        operation["operationId"]: operation["summary"]
        for item in document["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict) and "operationId" in operation
    }
    for name, word in (
        ("start_webhook_replay", "Replay"), ("resend_webhook_delivery", "Resend"),
        ("rotate_webhook_secret", "Rotate"), ("update_webhook", "Pause"),
        ("list_events", "Read the events feed"),
    ):  # fmt: skip
        assert titles[name].startswith(word)


def test_a_success_of_a_change_is_not_called_found(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/leads/{id}"]["patch"]["responses"]
    assert responses["200"]["description"] == "Done."


def test_every_required_query_parameter_is_in_the_example(pages: Pages) -> None:
    (code,) = find_code(pages["/docs/reference/search-leads"].body.decode(), "sh")
    assert re.search(r"/v1/leads/search\?q=\S{2,}\"", code)
    (code,) = find_code(pages["/docs/reference/list-events"].body.decode(), "sh")
    assert '/v1/events?types=lead.created,lead.qualified"' in code


def test_texts_of_the_document_are_escaped(document: dict[str, Any]) -> None:
    evil = json.loads(json.dumps(document).replace("Create a lead", "<script>alert(1)</script>"))
    for _, html in list_html(render_site(evil, Settings())):
        assert "<script>" not in html
        assert "&lt;script&gt;alert(1)" in html or "alert(1)" not in html


def test_the_search_index_leads_to_pages_and_anchors(pages: Pages) -> None:
    (index,) = [page for path, page in pages.items() if path.startswith("/docs/assets/search.")]
    entries = json.loads(index.body)
    assert len(entries) > 100
    for entry in entries:
        path, anchor = urldefrag(entry["path"])
        assert path in pages
        assert not anchor or anchor in find_ids(pages[path].body.decode())
        assert entry["title"]


def test_the_settings_of_the_service_are_in_the_guides(document: dict[str, Any]) -> None:
    settings = Settings(event_retention_days=77, webhook_timeout_s=9, body_limit_bytes=512 * 1024)
    pages = render_site(document, settings)
    assert "77 days" in pages["/docs/feed"].body.decode()
    assert "within 9\N{NO-BREAK SPACE}s" in pages["/docs/retries"].body.decode()
    assert "512\N{NO-BREAK SPACE}KiB" in pages["/docs/limits"].body.decode()


async def test_every_page_is_sent(api: Api, pages: Pages) -> None:
    for path, _ in list_html(pages):
        answer = await api.with_key(None).get(path)
        assert answer.status == pages[path].status, path
        assert answer.headers["content-type"] == HTML


async def test_the_root_leads_to_the_start_page(api: Api) -> None:
    answer = await api.with_key(None).get("/")
    assert (answer.status, answer.headers["location"]) == (307, "/docs")
    for path in ("/docs", "/docs/", "/docs/quickstart/", "/docs/reference/", "/docs?utm_source=x"):
        start = await api.with_key(None).get(path)
        assert start.status == 200
        assert start.headers["content-type"] == "text/html; charset=utf-8"
        assert b'href="/docs/quickstart"' in start.body


async def test_a_page_allows_only_its_own_origin(api: Api) -> None:
    answer = await api.with_key(None).get("/docs/webhooks")
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {
        "'self'"
    }
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_known_page_is_not_sent_again(api: Api) -> None:
    first = await api.get("/docs/webhooks")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    again = await api.call("GET", "/docs/webhooks", headers={"If-None-Match": tag})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    head = await api.call("HEAD", "/docs/webhooks")
    assert (head.status, head.headers["content-length"]) == (200, str(len(first.body)))


async def test_a_file_is_kept_for_ever_under_a_name_of_its_contents(api: Api) -> None:
    html = (await api.get("/docs")).body.decode()
    files = [link for link in find_links(html) if link.startswith("/docs/assets/")]
    assert len(files) == 4
    for file in files:
        answer = await api.with_key(None).get(file)
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/docs/nosuch", "/docs/reference/nosuch", "/docs/assets/x.css"])
async def test_an_unknown_page_is_404_with_a_way_back(api: Api, path: str) -> None:
    answer = await api.with_key(None).get(path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert b'href="/docs"' in answer.body
