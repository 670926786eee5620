"""Renders all pages of /docs, and the index for their search."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.docs.code_blocks import break_after_slashes
from service.docs.facts import make_facts
from service.docs.guides import Guide, list_guides
from service.docs.markdown import Heading, render_inline
from service.docs.reference import Group, OperationPage, list_groups, list_pages
from service.http.responses import HTML, StaticPage
from service.settings import Settings

Json = dict[str, Any]
START, REFERENCE, MISSING = "/docs", "/docs/reference", "/docs/missing"
_FOLDER = Path(__file__).parent
_ASSETS = {
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
SUMMARY = (
    "Leadlog takes in the leads that AI sales agents capture, keeps them, scores them, and "
    "announces every change by signed webhooks, an events feed and a stream for CRM connectors."
)
_EXCERPT = 2000
"""Characters of a section that the search knows."""


class Page(msgspec.Struct, frozen=True):
    """What every template knows of the page that it shows."""

    path: str
    title: str
    summary: str
    section: str = ""
    tag: str = ""


class Entry(msgspec.Struct, frozen=True):
    """An entry of the search index: a page or a section of it."""

    path: str
    page: str
    title: str
    text: str


def render_site(document: Json, settings: Settings) -> dict[str, StaticPage]:
    """All pages and files by path."""
    guides = list_guides(make_facts(document, settings))
    groups = list_groups(document)
    index = msgspec.json.encode(list(_list_entries(guides, groups)))
    files = {name: (_FOLDER / "assets" / name).read_bytes() for name in _ASSETS}
    assets = {
        _name_asset(name, body): StaticPage(
            body, _ASSETS.get(name, "application/json"), is_fixed=True
        )
        for name, body in (files | {"search.json": index}).items()
    }
    return _Site(document, guides, groups, list(assets)).render() | assets


def _name_asset(name: str, body: bytes) -> str:
    """The path of a file; it changes with the contents, so a browser may keep the file for ever."""
    stem, _, ending = name.partition(".")
    return f"/docs/assets/{stem}.{hashlib.sha256(body).hexdigest()[:12]}.{ending}"


class _Site:
    """Renders the pages; all of them have the same menu."""

    def __init__(
        self, document: Json, guides: list[Guide], groups: list[Group], assets: list[str]
    ) -> None:
        self._document = document
        self._guides = guides
        self._groups = groups
        self._environment = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
        )
        self._environment.filters |= {"inline": render_inline, "breakable": break_after_slashes}
        sections = dict.fromkeys(guide.section for guide in guides)
        self._environment.globals |= {
            "version": document["info"]["version"],
            "groups": groups,
            "sections": [
                {"title": title, "guides": [guide for guide in guides if guide.section == title]}
                for title in sections
            ],
            "assets": {re.sub(r"^.*/|(?<=\.)\w{12}\.", "", path): path for path in assets},
        }

    def render(self) -> dict[str, StaticPage]:
        pages = {START: self._render_start(), REFERENCE: self._render_reference()}
        for before, guide, after in _with_neighbours(self._guides):
            pages[guide.path] = self._render_guide(guide, before, after)
        operations = list(list_pages(self._groups))
        for before, operation, after in _with_neighbours(operations):
            path = f"{REFERENCE}/{operation.name}"
            pages[path] = self._render_operation(path, operation, before, after)
        missing = Page(MISSING, "There is no such page", "The address may be mistyped.")
        pages[MISSING] = self._render("missing.html", missing, status=404)
        return pages

    def _render_start(self) -> StaticPage:
        paragraphs = self._document["info"]["description"].split("\n\n")
        return self._render(
            "start.html",
            Page(START, "Leadlog", SUMMARY),
            description=[render_inline(part) for part in paragraphs],
            operation_count=sum(len(group.operations) for group in self._groups),
        )

    def _render_reference(self) -> StaticPage:
        summary = "Every path under /v1 is available under /api/v1 too."
        return self._render("reference.html", Page(REFERENCE, "All operations", summary))

    def _render_guide(self, guide: Guide, before: Guide | None, after: Guide | None) -> StaticPage:
        return self._render(
            "guide.html",
            Page(guide.path, guide.title, guide.summary, section=guide.section),
            headings=[each for each in guide.document.headings[1:] if each.level <= 3],  # noqa: PLR2004
            html=guide.document.html,
            before=before,
            after=after,
        )

    def _render_operation(
        self,
        path: str,
        operation: OperationPage,
        before: OperationPage | None,
        after: OperationPage | None,
    ) -> StaticPage:
        summary = f"{operation.method} {operation.path}: {operation.title}"
        group = next(group for group in self._groups if group.tag == operation.tag)
        return self._render(
            "operation.html",
            Page(path, operation.title, summary, tag=operation.tag),
            operation=operation,
            group=group,
            before=before,
            after=after,
        )

    def _render(self, template: str, page: Page, status: int = 200, **values: Any) -> StaticPage:
        values = {"headings": [], **values}
        html = self._environment.get_template(template).render(page=page, **values)
        return StaticPage(html.encode(), HTML, status=status)


def _with_neighbours(items: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Each item between the one before it and the one after it, or None."""
    yield from zip([None, *items[:-1]], items, [*items[1:], None], strict=True)


def _list_entries(guides: list[Guide], groups: list[Group]) -> Iterator[Entry]:
    for guide in guides:
        for heading in guide.document.headings:
            yield _make_entry(guide, heading)
    for operation in list_pages(groups):
        path = f"{REFERENCE}/{operation.name}"
        yield Entry(path, "Reference", operation.title, operation.words[:_EXCERPT])


def _make_entry(guide: Guide, heading: Heading) -> Entry:
    path = guide.path if heading.level == 1 else f"{guide.path}#{heading.id}"
    return Entry(path, guide.title, heading.title, heading.text[:_EXCERPT])
