"""Renders the guides' Markdown: anchors on headings, code with colours, tables that fit a phone."""

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from service.docs.code_blocks import render_code, render_inline_code

_ID = re.compile(r"\s*\{#([\w.-]+)\}$")
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


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


def render_markdown(text: str) -> Document:
    """Render a text whose first line is its title, as `# Title`."""
    tokens = _MARKDOWN.parse(text)
    headings = list(_name_headings(tokens))
    _label_cells(tokens)
    body = tokens[3:]  # without the title
    summary = next(_to_text(token) for token in body if token.type == "inline")
    return Document(headings[0].title, summary, _render(body), headings)


def render_inline(text: str) -> Markup:
    """Render one paragraph without its `<p>`, such as a description of the OpenAPI document."""
    return _render(_MARKDOWN.parseInline(text))


def _render(tokens: Iterable[Token]) -> Markup:
    html = _MARKDOWN.renderer.render(list(_replace(tokens)), _MARKDOWN.options, {})
    return Markup(html)  # noqa: S704  # markdown-it escapes the text


def _replace(tokens: Iterable[Token]) -> Iterator[Token]:
    """Replace the tokens that have an HTML of our own."""
    for token in tokens:
        if token.type == "fence":
            yield _make_html("html_block", render_code(token.content, token.info))
        elif token.type == "code_inline":
            yield _make_html("html_inline", render_inline_code(token.content))
        elif token.type == "table_open":
            yield _make_html("html_block", '<div class="table">')
            yield token
        elif token.type == "table_close":
            yield token
            yield _make_html("html_block", "</div>\n")
        else:
            if token.children:
                token.children = list(_replace(token.children))
            yield token


def _make_html(kind: str, html: str) -> Token:
    return Token(kind, "", 0, content=html)


def _name_headings(tokens: Sequence[Token]) -> Iterator[Heading]:
    """Give each heading its id: that of a `{#id}` at its end, else one made from its title."""
    starts = [index for index, token in enumerate(tokens) if token.type == "heading_open"]
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        head, inline = tokens[start], tokens[start + 1]
        name = _take_id(inline)
        title = _to_text(inline)
        name = name or re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        head.attrs["id"] = name
        _add_anchor(inline, name, title)
        text = " ".join(_to_text(t) for t in tokens[start + 3 : end] if t.type == "inline")
        yield Heading(name, int(head.tag[1]), title, text)


def _add_anchor(inline: Token, name: str, title: str) -> None:
    label = escape(f"Link to “{title}”")
    html = f' <a class="anchor" href="#{name}" aria-label="{label}">#</a>'
    if inline.children is not None:
        inline.children.append(_make_html("html_inline", html))


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
        if child.type != "html_inline"  # an anchor
    )
