"""Renders the guides' Markdown: anchors on headings, code with colours, tables that fit a phone."""

import re
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import msgspec
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

from service.docs.code_blocks import render_code, render_inline_code

_ID = re.compile(r"\s*\{#([\w.-]+)\}$")
Env = MutableMapping[str, Any]


class Heading(msgspec.Struct, frozen=True):
    """A heading of a page; `text` is the plain text of its section, for the search."""

    id: str
    level: int
    title: str
    text: str


class Document(msgspec.Struct, frozen=True):
    """A rendered Markdown text. `title` and `summary` are its first heading and paragraph."""

    title: str
    summary: str
    html: Markup
    headings: list[Heading]


class _Renderer(RendererHTML):
    """The renderer of markdown-it, with own rules for headings, code and tables."""

    def heading_open(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env
    ) -> str:
        return f'<{tokens[idx].tag} id="{escape(tokens[idx].attrs["id"])}">'

    def heading_close(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env
    ) -> str:
        name = escape(tokens[idx - 2].attrs["id"])
        label = escape(_to_text(tokens[idx - 1]))
        anchor = f'<a class="anchor" href="#{name}" aria-label="Link to “{label}”">#</a>'
        return f" {anchor}</{tokens[idx].tag}>\n"

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return render_code(tokens[idx].content, tokens[idx].info)

    def code_inline(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env
    ) -> str:
        return render_inline_code(tokens[idx].content)

    def table_open(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env
    ) -> str:
        return '<div class="table"><table>\n'

    def table_close(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env
    ) -> str:
        return "</table></div>\n"


_MARKDOWN = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")


def render_markdown(text: str) -> Document:
    """Render a text whose first line is its title, as `# Title`."""
    tokens = _MARKDOWN.parse(text)
    headings = list(_name_headings(tokens))
    _label_cells(tokens)
    summary = next(t for t in tokens[3:] if t.type == "inline")
    html = _MARKDOWN.renderer.render(tokens[3:], _MARKDOWN.options, {})
    return Document(headings[0].title, _to_text(summary), Markup(html), headings)  # noqa: S704


def render_inline(text: str) -> Markup:
    """Render one paragraph without its `<p>`, such as a description of the OpenAPI document."""
    return Markup(_MARKDOWN.renderInline(text))  # noqa: S704  # markdown-it escapes HTML


def _name_headings(tokens: Sequence[Token]) -> Iterator[Heading]:
    """Give each heading its id: that of a `{#id}` at its end, else one made from its title."""
    starts = [index for index, token in enumerate(tokens) if token.type == "heading_open"]
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        head, inline = tokens[start], tokens[start + 1]
        name = _take_id(inline)
        title = _to_text(inline)
        name = name or re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        head.attrs["id"] = name
        text = " ".join(_to_text(t) for t in tokens[start + 3 : end] if t.type == "inline")
        yield Heading(name, int(head.tag[1]), title, text)


def _take_id(inline: Token) -> str | None:
    last = inline.children[-1] if inline.children else None
    match = _ID.search(last.content) if last is not None else None
    if last is None or match is None:
        return None
    last.content = last.content[: match.start()]
    return match[1]


def _label_cells(tokens: Sequence[Token]) -> None:
    """Give each cell the heading of its column: a phone shows it beside the cell."""
    heads: list[str] = []
    column = 0
    for index, token in enumerate(tokens):
        if token.type == "thead_open":
            heads = []
        elif token.type == "th_open":
            heads.append(_to_text(tokens[index + 1]))
        elif token.type == "tr_open":
            column = 0
        elif token.type == "td_open":
            token.attrs["data-label"] = heads[column]
            column += 1


def _to_text(inline: Token) -> str:
    return "".join(
        " " if child.type in {"softbreak", "hardbreak"} else child.content
        for child in inline.children or ()
    )
