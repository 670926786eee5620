"""/docs: the OpenAPI document as one HTML page, rendered once at the start.

The page has no script, font or image and loads nothing from other hosts; its
Content-Security-Policy forbids all of these. (Swagger UI packaged for Python renders OpenAPI 3.0.)
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from service.docs.schema_words import describe_schema
from service.http.responses import StaticPage

Json = dict[str, Any]
STYLE = (Path(__file__).parent / "docs.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class _Entry:
    method: str
    path: str
    operation: Json

    @property
    def anchor(self) -> str:
        return str(self.operation["operationId"])

    @property
    def tag(self) -> str:
        return str(self.operation["tags"][0])


def render_page(document: Json) -> StaticPage:
    """The page of a document that `service.docs.openapi` has made."""
    entries = [
        _Entry(method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "servers"
    ]
    title = escape(document["info"]["title"])
    body = "".join((*_render_nav(document, entries), "<main>", *_render_main(document, entries)))
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style>{body}</main></html>"
    )
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return StaticPage(html.encode(), policy)


def _render_nav(document: Json, entries: list[_Entry]) -> Iterator[str]:
    info = document["info"]
    yield f'<nav><a class="home" href="#top">{escape(info["title"])}</a> <small>'
    yield f'{escape(info["version"])}</small><ul><li><a href="#errors">Errors</a></ul>'
    for tag, group in _group(entries):
        yield f"<h2>{escape(tag)}</h2><ul>"
        for entry in group:
            summary = escape(entry.operation["summary"])
            yield f'<li><a href="#{entry.anchor}">{_badge(entry.method)} {summary}</a>'
        yield "</ul>"
    yield '<p><a href="openapi.json">openapi.json</a></nav>'


def _group(entries: list[_Entry]) -> Iterator[tuple[str, list[_Entry]]]:
    for tag, group in groupby(entries, key=lambda entry: entry.tag):
        yield tag, list(group)


def _render_main(document: Json, entries: list[_Entry]) -> Iterator[str]:
    info = document["info"]
    yield f'<header id="top"><h1>{escape(info["title"])} API</h1>{_prose(info["description"])}'
    yield "<p>Send a key with each request: <code>Authorization: Bearer sk_live_…</code></header>"
    yield from _render_errors(document)
    for tag, group in _group(entries):
        yield f"<h2>{escape(tag)}</h2>"
        for entry in group:
            yield from _render_operation(document, entry)


def _render_errors(document: Json) -> Iterator[str]:
    yield '<section id="errors"><h2>Errors</h2><p>All errors have one format, and '
    yield "<code>X-Request-Id</code> is the id of the request in the logs.</p>"
    responses = document["components"]["responses"]
    samples = [
        response["content"]["application/json"]["example"] for response in responses.values()
    ]
    yield _sample(samples[0])
    yield "<table><tr><th>Code<th>Meaning</tr>"
    for response, sample in zip(responses.values(), samples, strict=True):
        yield f"<tr><td><code>{escape(sample['error']['code'])}</code>"
        yield f"<td>{_inline(response['description'])}</tr>"
    yield "</table></section>"


def _render_operation(document: Json, entry: _Entry) -> Iterator[str]:
    operation = entry.operation
    yield f'<section id="{entry.anchor}"><h3>{escape(operation["summary"])}</h3>'
    yield f'<p class="route">{_badge(entry.method)} <code>{escape(entry.path)}</code></p>'
    yield _prose(operation.get("description", ""))
    yield from _render_parameters(operation.get("parameters", []))
    if body := operation.get("requestBody"):
        yield from _render_body(document, body["content"]["application/json"])
    yield f"<h4>Try it</h4>{_pre(_make_curl(entry))}"
    yield from _render_responses(document, operation["responses"])
    yield "</section>"


def _render_parameters(parameters: list[Json]) -> Iterator[str]:
    if not parameters:
        return
    yield "<h4>Parameters</h4><table><tr><th>Name<th>In<th>Value</tr>"
    for each in parameters:
        suffix = "[key]" if each.get("style") == "deepObject" else ""
        words = describe_schema(each["schema"]) + (", required" if each["required"] else "")
        more = "<br>" + _inline(each["description"]) if "description" in each else ""
        yield f"<tr><td><code>{escape(each['name'] + suffix)}</code><td>{each['in']}"
        yield f"<td>{escape(words)}{more}</tr>"
    yield "</table>"


def _render_body(document: Json, content: Json) -> Iterator[str]:
    schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    yield "<h4>Body</h4>" + _prose(schema.get("description", ""))
    yield "<table><tr><th>Field<th>Value</tr>"
    for name, part in schema.get("properties", {}).items():
        words = describe_schema(part) + (", required" if name in schema.get("required", ()) else "")
        yield f"<tr><td><code>{escape(name)}</code><td>{escape(words)}</tr>"
    yield "</table>"


def _render_responses(document: Json, responses: Json) -> Iterator[str]:
    yield "<h4>Responses</h4>"
    for status, response in responses.items():
        shown = response
        if "$ref" in response:
            shown = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        head = f"<b>{status}</b> {_inline(shown['description'])}"
        sample = shown.get("content", {}).get("application/json", {}).get("example")
        if sample is None:
            yield f'<p class="response">{head}</p>'
        else:
            is_open = " open" if status.startswith("2") else ""
            yield f"<details{is_open}><summary>{head}</summary>{_sample(sample)}</details>"


def _make_curl(entry: _Entry) -> str:
    lines = ["curl" if entry.method == "GET" else f"curl -X {entry.method}"]
    lines[0] += f' "$LEADLOG{entry.path}"'
    if entry.operation["security"]:
        lines.append('-H "Authorization: Bearer $KEY"')
    if body := entry.operation.get("requestBody"):
        example = body["content"]["application/json"].get("example", {})
        lines.append('-H "Content-Type: application/json"')
        lines.append(f"-d '{json.dumps(example, ensure_ascii=False, indent=2)}'")
    return " \\\n  ".join(lines)


def _sample(value: Any) -> str:
    return _pre(json.dumps(value, ensure_ascii=False, indent=2))


def _pre(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text, quote=False)}</code></pre>'


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part)


def _inline(text: str) -> str:
    parts = escape(text, quote=False).split("`")
    return "".join(_alternate(parts))


def _alternate(parts: Iterable[str]) -> Iterator[str]:
    """Mark every second part as code, because it was between backticks."""
    for index, part in enumerate(parts):
        yield f"<code>{part}</code>" if index % 2 else part


def _badge(method: str) -> str:
    return f'<span class="method {method.lower()}">{method}</span>'
